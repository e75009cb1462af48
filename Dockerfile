# Two stages: the first installs the locked dependencies, the second has neither pip's caches nor a compiler.
FROM python:3.13-slim AS build
WORKDIR /srv
COPY requirements.lock ./
RUN python -m venv /srv/.venv \
    && /srv/.venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements.lock

FROM python:3.13-slim
WORKDIR /srv
RUN useradd --system --uid 10001 --home-dir /srv listener \
    && install -d -o listener -g listener /data
COPY --from=build /srv/.venv /srv/.venv
COPY app ./app
COPY deploy/healthcheck.py ./
ENV PATH=/srv/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DATABASE_URL=sqlite:////data/listener.db
USER 10001
VOLUME /data
EXPOSE 8080
# It asks the port that the command line names, so that `dispatch --port 8081` is not unhealthy for ever.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["python", "/srv/healthcheck.py"]
CMD ["python", "-m", "app", "serve", "--host", "0.0.0.0"]
