"""The web application: ``uvicorn app.main:app``."""

import os
import re
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp
from uvicorn.protocols.http import h11_impl, httptools_impl

from app import __doc__ as description
from app.clicks.signature import CLICKS_PATH, SLACK_SCHEME
from app.deliver.dispatcher import Dispatcher
from app.errors import ListenerError, SettingsError
from app.notifier.kind import FindLinks
from app.observe import otel
from app.observe.metrics import Metrics
from app.observe.tracing import OFF
from app.receive import webhook
from app.receive.event import WEBHOOK_PATH
from app.receive.pieces import MAX_READ_BYTES
from app.receive.whole import TAKE
from app.runtime.apart import Apart
from app.runtime.configured import open_links
from app.runtime.listener import Runtime, open_runtime
from app.runtime.process import settle_memory, start_up
from app.runtime.shutdown import on_stop_signal
from app.settings import Settings
from app.store.opening import prepare_store
from app.web import docs, health, metrics
from app.web.health import Health, check_readiness
from app.web.metrics import read_store
from app.web.middleware import (
    ERROR_HANDLERS,
    compressed_pages,
    head_as_get,
    plain_headers,
    plain_start,
    webhook_answers,
    without_last_slash,
)
from app.web.prefix import with_prefix
from app.web.protocol import LimitedProtocol

MAX_OPEN_FILES = 65_536
UNLIMITED = "uvicorn.protocols.http.zttp_impl"


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
        inner = plain_headers(without_last_slash(super().build_middleware_stack()))
        return plain_start(head_as_get(compressed_pages(with_prefix(inner, self.prefix))))


def create_app(
    settings: Settings, *, receive: bool = True, dispatch: bool = True, apart: bool = False
) -> FastAPI:
    """Make the application; its lifespan opens the store and runs the delivery loop.

    Args:
        settings: The configuration.
        receive: Whether it takes changes; if not, it answers only the health checks.
        dispatch: Whether it delivers; if not, another process does.
        apart: Whether it starts a process that delivers in its place.
    """
    watch = Metrics()
    provider = otel.make_provider(os.environ)
    tracer = provider.get_tracer("app") if provider else OFF

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        app.state.stopping = False
        other = Apart(watch) if apart else None
        here = dispatch and other is None
        opening = open_runtime(
            settings,
            receive=receive,
            dispatch=here,
            apart=other,
            reconcile=True,
            watch=watch,
            tracer=tracer,
        )
        try:
            with on_stop_signal(lambda: setattr(app.state, "stopping", True)):
                async with (
                    other.running() if other else nullcontext(),
                    opening as runtime,
                    open_links(settings, runtime.store.clock) as links,
                ):
                    settle_memory()
                    if other:  # before a change comes: the other process may take seconds to begin
                        await runtime.rules.follow()
                    delivers = runtime.dispatcher if here else other
                    state = _request_state(settings, runtime, links, watch, delivers)
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
    settings: Settings,
    runtime: Runtime,
    find_links: FindLinks,
    watch: Metrics,
    dispatcher: Dispatcher | Apart | None,
) -> dict[str, Any]:
    """Make what the routes find in a request's state: the running parts that they need."""
    apart = dispatcher if isinstance(dispatcher, Apart) else None

    async def readiness() -> Health:
        warnings = runtime.rules.warnings() + (apart.warnings() if apart else [])
        return await check_readiness(runtime.store, dispatcher, warnings, runtime.store.clock())

    async def scrape() -> bytes:
        numbers = await read_store(runtime.store, runtime.store.clock(), dispatcher)
        return watch.scrape(numbers, await apart.numbers() if apart else {})

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


def load_app(*, receive: bool = True, dispatch: bool = True, apart: bool = False) -> FastAPI:
    """Make the application that the environment configures; the arguments are those of `create_app`.

    Raises:
        SystemExit: It cannot start; the text says why and what to do.
    """
    try:
        limit_uvicorn()
        settings = start_up()
        prepare_store(settings.database[0])
    except ListenerError as error:
        raise SystemExit(f"Cannot start:\n{error}") from None
    _allow_open_files()
    return create_app(settings, receive=receive, dispatch=dispatch, apart=apart)


def limit_uvicorn() -> None:
    """Let uvicorn use `LimitedProtocol`, however it was started: ``--http auto``, ``httptools``, ``h11``.

    Raises:
        SettingsError: It was started with a protocol that has no limits and cannot be replaced.
    """
    if UNLIMITED in sys.modules:
        raise SettingsError("uvicorn's --http zttp (or HTTP/2) has no limits: remove the option")
    # In place, since it has chosen its class before it imports the application.
    httptools_impl.HttpToolsProtocol.__new__ = _limited  # type: ignore[method-assign,assignment]
    h11_impl.H11Protocol.__new__ = _in_place_of_another  # type: ignore[method-assign,assignment]


def _limited(wanted: type, *_: object, **__: object) -> LimitedProtocol:
    return object.__new__(wanted if issubclass(wanted, LimitedProtocol) else LimitedProtocol)


def _in_place_of_another(_: object, *args: Any, **kwargs: Any) -> LimitedProtocol:
    return LimitedProtocol(*args, **kwargs)


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
