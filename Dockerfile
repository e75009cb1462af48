# Two stages: the first installs the locked dependencies, the second has neither pip's caches nor a compiler.
FROM python:3.13-slim AS build
WORKDIR /srv
ENV PATH=/srv/.venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements-build.lock requirements.lock ./
# sseclient has no wheel: it is built with the setuptools of our lock, or pip would fetch any.
RUN python -m venv /srv/.venv \
    && pip install --require-hashes --no-deps -r requirements-build.lock \
    && sed -n '/^sseclient==/,/[^\\]$/p' requirements.lock > sseclient.lock \
    && pip install --require-hashes --no-deps --no-build-isolation -r sseclient.lock \
    && pip install --require-hashes --no-deps -r requirements.lock \
    && pip uninstall --yes setuptools
COPY app ./app
COPY deploy/healthcheck.py ./
# Compiled here, since nobody may write here later. Readable whatever the umask of the checkout was.
RUN python -m compileall -q --invalidation-mode unchecked-hash app \
    && chmod -R a+rX app healthcheck.py

FROM python:3.13-slim
WORKDIR /srv
# /data belongs to group 0 too: OpenShift runs an image as any user of that group.
RUN useradd --system --uid 10001 --gid 0 --home-dir /srv listener \
    && install -d -o listener -g 0 -m 770 /data
COPY --from=build /srv/.venv /srv/.venv
COPY --from=build /srv/app ./app
COPY --from=build /srv/healthcheck.py ./
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
