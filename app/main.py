"""The web application: ``uvicorn app.main:app``."""

import gc
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from app import __doc__ as description
from app.errors import ListenerError, SignatureRejected, SourceRefused, StoreUnavailable, UnreadableChange
from app.notifier.registry import SETTINGS_MODELS
from app.observe import otel
from app.observe.logs import configure_logging
from app.observe.metrics import Metrics, prepare_metrics
from app.observe.tracing import OFF
from app.port.setup.answers import SOURCE_REFUSED
from app.receive import webhook
from app.receive.rulebook import read_rules, secrets_of
from app.reconcile.configured import why_no_comparison
from app.runtime import Runtime, open_runtime
from app.settings import Settings, environment, load_settings
from app.store.opening import prepare_store
from app.web import docs, health, metrics
from app.web.answers import Answers
from app.web.headers import PlainHeaders
from app.web.stopping import noticing_stop
from app.web.store_metrics import read_store

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 5
OPEN_FILES = 65_536
COLLECT_AFTER = 10_000  # more objects made than freed; 700 unless told, which is a few changes


class _Application(FastAPI):
    def build_middleware_stack(self) -> ASGIApp:
        # Around the framework's own middleware too: that answers 413 where a length is announced, and 500.
        return PlainHeaders(super().build_middleware_stack())


def create_app(settings: Settings, *, receive: bool = True, dispatch: bool = True) -> FastAPI:
    """Return the application; its lifespan opens the store and runs the delivery loop.

    Args:
        settings: The configuration.
        receive: Whether it takes changes; if not, it answers only how it is.
        dispatch: Whether it delivers; if not, another process does.
    """
    watch = Metrics()
    provider = otel.make_provider(os.environ)
    tracer = provider.get_tracer("app") if provider else OFF

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        app.state.stopping = False
        try:
            with noticing_stop(lambda: setattr(app.state, "stopping", True)):
                async with open_runtime(
                    settings, dispatch=dispatch, reconcile=True, watch=watch, tracer=tracer
                ) as runtime:

                    async def scrape() -> bytes:
                        return watch.scrape(await read_store(runtime.store, datetime.now(UTC)))

                    parts: dict[str, Any] = {
                        "listener": runtime.listener,
                        "readiness": lambda: _readiness(runtime, dispatch),
                        "sources": settings.sources,
                        "watch": watch,
                        "scrape": scrape,
                    }
                    _settle_memory()
                    yield parts | _page_parts(settings, runtime, dispatch)
        finally:
            await otel.close(provider)

    app = _Application(
        title="Port changelog listener",
        summary=(description or "").partition("\n")[0],
        lifespan=lifespan,
        docs_url=None,  # in its place: app/web/docs.py
        redoc_url=None,
        max_body_size=settings.max_body_bytes,
        telemetry=otel.telemetry(provider, webhook.PATH),
    )
    app.add_middleware(
        Answers,
        watch=watch,
        handlers=HANDLERS,
        # With traces on, the framework makes the request's span on its way.
        shortcut=webhook.receive if receive and provider is None else None,
    )
    if receive:
        app.include_router(webhook.router)
    app.include_router(health.router)
    app.include_router(docs.router)
    app.mount(docs.FILES_PATH, docs.docs_files())
    if settings.metrics_public or settings.admin_token:  # without either there are none
        app.include_router(metrics.metrics_router(public=settings.metrics_public))
    if receive and settings.admin_token is not None:
        # Imported for whoever has it only: it is a tenth of the start, and of the memory.
        from app.web import dashboard, deeds, pages, v1

        app.include_router(dashboard.router)
        app.include_router(deeds.router)
        app.include_router(v1.router)
        app.mount("/static", pages.Static())
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


def _settle_memory() -> None:
    """Spare the garbage collector what was made at the start and stays, and let it look less often.

    It would otherwise look through all modules and models again and again: an eighth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def _page_parts(settings: Settings, runtime: Runtime, dispatch: bool) -> dict[str, Any]:
    """Return what the page and its API need; nothing where nobody may see them."""
    if settings.admin_token is None:
        return {}
    from app.web.desk import Desk
    from app.web.session import Gate

    gate = Gate(settings.admin_token.get_secret_value())
    desk = Desk(
        store=runtime.store,
        views=runtime.store.views,
        listener=runtime.listener,
        readiness=lambda: _readiness(runtime, dispatch),
        not_compared=lambda: why_no_comparison(
            settings.reconcile_minutes, settings.missing_credential, runtime.listener.book
        ),
        compared_every=timedelta(minutes=settings.reconcile_minutes),
        app_url=str(settings.port_app_url),
        clock=lambda: runtime.store.time(datetime.now(UTC)),
    )
    return {"desk": desk, "gate": gate}


async def _readiness(runtime: Runtime, dispatch: bool) -> health.Health:
    reasons = []
    try:
        await runtime.store.check(datetime.now(UTC))
    except StoreUnavailable as error:
        reasons.append(f"the store cannot write: {error}")
    if dispatch and (stale := runtime.dispatcher.stale()):
        reasons.append(stale)
    warnings = [f"the rules file is refused: {runtime.rules.problem}"] if runtime.rules.problem else []
    with suppress(StoreUnavailable):
        queues = await runtime.store.queues(datetime.now(UTC))
        warnings += [f"queue {queue.name} is on hold: {queue.on_hold}" for queue in queues if queue.on_hold]
    return health.Health(status="unavailable" if reasons else "ok", reasons=reasons, warnings=warnings)


def _forbidden(_: Request, error: Exception) -> Response:
    log.warning("source refused", address=str(error))
    return JSONResponse({"error": SOURCE_REFUSED}, 403)


def _unauthorized(_: Request, __: Exception) -> Response:
    # No detail: it would help nobody but whoever tries signatures out. Our log has it.
    return JSONResponse({"error": "the signature is missing, stale or wrong"}, 401)


def _unreadable(_: Request, error: Exception) -> Response:
    assert isinstance(error, UnreadableChange)  # noqa: S101 - tells mypy what add_exception_handler cannot
    return JSONResponse({"error": error.reason, "path": error.path}, 422)


def _unavailable(request: Request, error: Exception) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    if request.url.path.startswith("/api/v1"):
        return JSONResponse({"detail": f"the store is not available: {error}"}, 503, headers)
    log.error("change not stored", reason=str(error))
    return JSONResponse({"error": "the change could not be stored; send it again"}, 503, headers)


def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # the sender hung up before its body was whole: nobody reads this


def _too_slow(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "the body did not arrive in time"}, 408)


HANDLERS = {
    SourceRefused: _forbidden,
    SignatureRejected: _unauthorized,
    UnreadableChange: _unreadable,
    StoreUnavailable: _unavailable,
    ClientDisconnect: _gone,
    TimeoutError: _too_slow,
}
"""What each kind of error is answered with."""


def load_app(*, receive: bool = True, dispatch: bool = True) -> FastAPI:
    """Return the application as the environment configures it.

    Args:
        receive: Whether it takes changes.
        dispatch: Whether it delivers.

    Raises:
        SystemExit: It cannot start; the text says why and what to do.
    """
    try:
        settings = load_settings()
        rules = read_rules(settings.rules_file, environment(), SETTINGS_MODELS)
        hidden = settings.hidden + secrets_of(rules)
        configure_logging(settings.log_level, settings.log_format, hidden)
        prepare_metrics()
        prepare_store(settings.database[0])
    except ListenerError as error:
        raise SystemExit(f"Cannot start:\n{error}") from None
    _allow_open_files()
    return create_app(settings, receive=receive, dispatch=dispatch)


def _allow_open_files() -> None:
    """Let as many connections be open as the system allows.

    Most start a program with a soft limit of 1,024, which is for programs that use `select`: as many
    connections that do nothing would shut Port out.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if 0 <= soft < most:
        with suppress(OSError, ValueError):  # macOS has a further limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def __getattr__(name: str) -> FastAPI:
    # `app` is made when uvicorn asks for it, so that importing this module reads no settings.
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load_app()
