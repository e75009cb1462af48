"""The web application: ``uvicorn app.main:app``."""

import gc
import os
import re
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from app import __doc__ as description
from app.clicks.signature import CLICKS_PATH, SLACK_SCHEME
from app.environment import environment
from app.errors import ListenerError, SettingsError
from app.network import Network
from app.notifier.kind import FindLinks
from app.observe import otel
from app.observe.logs import configure_logging
from app.observe.metrics import Metrics, prepare_metrics
from app.observe.tracing import OFF
from app.receive import webhook
from app.receive.event import WEBHOOK_PATH
from app.receive.rules_source import secrets_of
from app.receive.whole import TAKE
from app.runtime.configured import load_usable, open_links, with_rules
from app.runtime.listener import Runtime, open_runtime
from app.settings import Settings, load_settings
from app.store.opening import prepare_store
from app.web import docs, health, metrics
from app.web.health import Health, check_readiness
from app.web.metrics import read_store
from app.web.middleware import (
    ERROR_HANDLERS,
    head_as_get,
    plain_headers,
    plain_start,
    webhook_answers,
    without_last_slash,
)
from app.web.prefix import with_prefix
from app.web.protocol import MAX_READ_BYTES, limit_uvicorn
from app.web.shutdown import on_stop_signal

MAX_OPEN_FILES = 65_536
COLLECT_AFTER_OBJECTS = 10_000  # Python's own 700 would collect every few changes


class _Application(FastAPI):
    prefix = ""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():  # what generated clients call it: its name alone
                place = re.sub(r"\W", "_", f"{path}_{method}")
                operation["operationId"] = operation["operationId"].removesuffix(place)
        if WEBHOOK_PATH in document["paths"]:
            webhook.describe(document)
        if CLICKS_PATH in document["paths"]:
            document["components"]["securitySchemes"]["SlackSignature"] = SLACK_SCHEME
        return document

    def build_middleware_stack(self) -> ASGIApp:
        # Around the framework's own middleware too: that answers 413 where a length is announced, and 500.
        inner = head_as_get(without_last_slash(super().build_middleware_stack()))
        return plain_start(with_prefix(plain_headers(inner), self.prefix))


def create_app(settings: Settings, *, receive: bool = True, dispatch: bool = True) -> FastAPI:
    """Make the application; its lifespan opens the store and runs the delivery loop.

    Args:
        settings: The configuration.
        receive: Whether it takes changes; if not, it answers only the health checks.
        dispatch: Whether it delivers; if not, another process does.
    """
    watch = Metrics()
    provider = otel.make_provider(os.environ)
    tracer = provider.get_tracer("app") if provider else OFF

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        app.state.stopping = False
        opening = open_runtime(settings, dispatch=dispatch, reconcile=True, watch=watch, tracer=tracer)
        try:
            with on_stop_signal(lambda: setattr(app.state, "stopping", True)):
                async with opening as runtime, open_links(settings, runtime.store.clock) as links:
                    _settle_memory()
                    state = _request_state(settings, runtime, links, watch, dispatch=dispatch)
                    # With traces on, the framework itself is needed: it makes the request's span. By the
                    # sources and the limit the application judges.
                    direct = receive and provider is None and settings.sources is None
                    if direct and settings.max_body_bytes >= MAX_READ_BYTES:
                        state[TAKE] = partial(webhook.take, runtime.receiver, watch)
                    yield state
        finally:
            await otel.close(provider)

    prefix = (settings.page_url.path or "").rstrip("/") if settings.page_url else ""
    app = _Application(
        title="Port changelog listener",
        summary=(description or "").partition("\n")[0],
        lifespan=lifespan,
        docs_url=None,  # app/web/docs.py in its place
        redoc_url=None,
        redirect_slashes=False,  # `without_last_slash` in its place
        servers=[
            {"url": prefix or "/"}
        ],  # as if it were not said, but not every generator of clients knows that
        max_body_size=settings.max_body_bytes,  # a larger body is refused before all of it is read
        telemetry=otel.telemetry(provider, WEBHOOK_PATH),
    )
    app.prefix = prefix
    app.add_middleware(webhook_answers, watch=watch)
    for kind, handler in ERROR_HANDLERS.items():
        app.add_exception_handler(kind, handler)
    _add_routes(app, settings, receive=receive)
    return app


def _add_routes(app: FastAPI, settings: Settings, *, receive: bool) -> None:
    routers = [health.router, docs.router]
    if settings.metrics_public or settings.admin_token:  # without either nobody may read them
        routers.append(metrics.metrics_router(public=settings.metrics_public))
    app.mount(docs.FILES_PATH, docs.FILES)
    if receive:
        routers.insert(0, webhook.router)
    if receive and settings.slack_signing_secret:
        from app.clicks import route

        routers.insert(1, route.router)
    if receive and settings.admin_token is not None:
        # Imported only where it is used: it takes a tenth of the start and of the memory.
        from app.web import forms, incidents, page, render, silence_forms
        from app.web.api import routes, silences

        routers += [incidents.router, page.router, forms.router, silence_forms.router]
        routers += [routes.router, silences.router]
        app.mount("/static", render.Static())
        app.add_exception_handler(404, render.not_found)
    for router in routers:
        # As they are: `include_router` makes each route again, which takes 0.3 s, and looks for it twice.
        app.router.routes.extend(router.routes)


def _request_state(
    settings: Settings, runtime: Runtime, find_links: FindLinks, watch: Metrics, *, dispatch: bool
) -> dict[str, Any]:
    """Make what the routes find in a request's state: the running parts that they need."""

    async def readiness() -> Health:
        dispatcher = runtime.dispatcher if dispatch else None
        return await check_readiness(
            runtime.store, dispatcher, runtime.rules.warnings(), runtime.store.clock()
        )

    async def scrape() -> bytes:
        return watch.scrape(await read_store(runtime.store, runtime.store.clock()))

    state = {
        "receiver": runtime.receiver,
        "readiness": readiness,
        "sources": settings.sources,
        "watch": watch,
        "scrape": scrape,
        "clicks": runtime.clicks,
    }
    if secret := settings.slack_signing_secret:
        state["slack_signing_secret"] = secret.get_secret_value()
    if settings.admin_token is None:  # and so no page
        return state
    from app.web.context import WebContext
    from app.web.session import Gate

    context = WebContext(
        store=runtime.store,
        intake=runtime.intake,
        readiness=readiness,
        reconcile_minutes=settings.reconcile_minutes,
        missing_credential=settings.missing_credential,
        app_url=str(settings.port_app_url),
        clock=runtime.store.clock,
        find_links=find_links,
    )
    return state | {"context": context, "gate": Gate(settings.admin_token.get_secret_value())}


def _settle_memory() -> None:
    """Exempt what was made at the start from garbage collection, and collect less often.

    All modules and models would be traversed again and again, which took an eighth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)


def load_app(*, receive: bool = True, dispatch: bool = True) -> FastAPI:
    """Make the application that the environment configures; the arguments are those of `create_app`.

    Raises:
        SystemExit: It cannot start; the text says why and what to do.
    """
    try:
        limit_uvicorn()
        try:
            settings = load_settings()
        except SettingsError as error:
            raise with_rules(error) from None
        rules, _ = load_usable(settings)
        network = Network(environment())
        hidden = settings.hidden + network.hidden + otel.hidden(os.environ) + secrets_of(rules)
        configure_logging(settings.log_level, settings.log_format, hidden)
        prepare_metrics()
        prepare_store(settings.database[0])
    except ListenerError as error:
        raise SystemExit(f"Cannot start:\n{error}") from None
    _allow_open_files()
    return create_app(settings, receive=receive, dispatch=dispatch)


def _allow_open_files() -> None:
    """Raise the limit of open files, and so of connections, to what the system allows.

    The usual soft limit of 1,024 is meant for programs that use `select`: as many idle connections would
    shut Port out.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if 0 <= soft < most:
        with suppress(OSError, ValueError):  # macOS has a further limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def __getattr__(name: str) -> FastAPI:
    # `app` is made when uvicorn asks for it, so that importing this module reads no settings.
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load_app()
