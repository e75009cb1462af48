"""The kind "http": a job at an HTTP address, or a program that is to know; one request for each alert.

Rules: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md,
https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from hashlib import sha256
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from app.errors import DeliveryFailed, Scope, SettingsError
from app.model.notification import one_line
from app.model.times import parse_retry_after
from app.notifier.alert_body import alert_event, digest_id, digest_of
from app.notifier.base import Item, Notifier, Parcel, Sent, Tried
from app.notifier.failure import TOO_LATE, failure_of_status
from app.notifier.http.answer import failure_of_error, read_start
from app.notifier.http.destination import WHOLE_ALERT, HttpDestination
from app.notifier.http.guard import connector, judge_host, refusal
from app.notifier.http.job_url import JobUrl
from app.notifier.http.parts import MAX_BODY_BYTES, header_value, json_body, signer
from app.notifier.kind import Kind, NotifierContext

# Together they stay below the 10 s that a send may take: a longer one would be cut off, and the answer lost.
CONNECT_WITHIN = timedelta(seconds=4)
ANSWER_WITHIN, TEXT_WITHIN = timedelta(seconds=8), timedelta(seconds=1)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
OUR_HEADERS = frozenset(
    {"webhook-id", "webhook-timestamp", "webhook-signature", "idempotency-key"}
    | {"host", "content-length", "transfer-encoding", "connection"}
)
MAX_DIGEST = 100  # alerts in one request
MAX_SHOWN_ANSWER_CHARS, MIN_SECRET_CHARS = 200, 8  # a shorter value may be any word of an answer


@dataclass(frozen=True, slots=True)
class _Call:
    job: JobUrl
    url: URL
    headers: dict[str, str]
    body: bytes | None
    private: tuple[str, ...]  # beside the URL, what of the request may be a secret

    def hide(self, text: str) -> str:
        """Take possible secrets out of an answer's text: a server may repeat the request."""
        if len(text) < MIN_SECRET_CHARS:  # "ok"
            return text
        url = self.url
        secrets = {str(url), url.raw_path_qs, url.path_qs, url.path, url.password or "", *url.query.values()}
        secrets.update(piece for value in self.private for piece in (value, *value.split()))
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "[hidden]") if len(secret) >= MIN_SECRET_CHARS else text
        return text


def _what_can_never_be_sent(headers: Mapping[str, str], body: Any, secret: str | None) -> Iterator[str]:
    """Yield what is wrong with each part that no template changes: no request would be possible."""
    for name in headers:
        if not HEADER_NAME.fullmatch(name) or name.lower() in OUR_HEADERS:
            yield f"headers: {one_line(name, 80)!r} cannot be set"
    checks: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [("body", json_body, (body,))]
    checks += [("headers", header_value, header) for header in headers.items() if "{{" not in header[1]]
    checks += [("secret", signer, (secret,))] if secret is not None else []
    for key, check, arguments in checks:
        try:
            check(*arguments)
        except DeliveryFailed as failed:
            yield f"{key}: {failed.reason}"


class HttpNotifier(Notifier):
    """Sends one HTTP request an alert.

    ``webhook-id`` and ``Idempotency-Key`` are the delivery's id at every attempt, so that the receiver can
    recognise a repeat. No redirect is followed, no cookie kept. URLs and headers may hold secrets, so errors
    name the host only. aiohttp itself repeats a GET, PUT or DELETE once if its connection breaks.

    Args:
        resolver: Looks names up; the system's unless given.
        connect_within: How long connecting may take, the name's look-up and TLS with it.
        answer_within: How long all may take until the answer's status is there.
        text_within: How long the answer's text may take after that.

    Raises:
        SettingsError: The secret, or what no template changes of the URL, the headers and the body, cannot be
            sent; or the environment's proxy or certificates cannot be used.
    """

    def __init__(
        self,
        _: str,
        settings: HttpDestination,
        context: NotifierContext,
        *,
        resolver: AbstractResolver | None = None,
        connect_within: timedelta = CONNECT_WITHIN,
        answer_within: timedelta = ANSWER_WITHIN,
        text_within: timedelta = TEXT_WITHIN,
    ) -> None:
        url = settings.url.get_secret_value()
        resolve_url = (settings.resolve_url or settings.url).get_secret_value()
        headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        self._method, self.address = settings.method, sha256(url.encode()).hexdigest()
        self.batch_limit, self.repeats_alike = MAX_DIGEST if settings.digest else 1, settings.digest
        # An empty one, as of a variable that is not set, must not mean that nothing is signed.
        secret = None if settings.secret is None else settings.secret.get_secret_value()
        wrong = [*_what_can_never_be_sent(headers, settings.body, secret)]
        try:
            self._url = JobUrl(url, settings.allow_hosts)
        except SettingsError as error:
            wrong.append(str(error))
        try:
            self._resolve_url = JobUrl(resolve_url, settings.allow_hosts)
        except SettingsError as error:
            wrong += [f"resolve_{error}"] if settings.resolve_url else []
        if wrong:
            raise SettingsError("\n".join(wrong))
        self._signer = None if secret is None else signer(secret)
        self._template = {"headers": headers, "body": settings.template}
        self._private = settings.allow_private
        self._context = context
        self._resolver = resolver
        self._limits = aiohttp.ClientTimeout(
            total=answer_within.total_seconds(), connect=connect_within.total_seconds()
        )
        self._text_within = text_within
        self._proxied = settings.proxy == "environment"
        addresses = ((url, self._url), (resolve_url, self._resolve_url))
        plain = all(text.lower().startswith("http:") for text, _ in addresses) and not self._proxied
        self._tls = None if plain else context.network.tls()
        anywhere = ("http://host.invalid", "https://host.invalid")
        for text, job in addresses:
            for address in (text.partition("{{")[0],) if job.fixed_host else anywhere:
                self._proxy(address)  # one that cannot be used is refused now
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._fixed_headers = not any("{{" in value for value in headers.values())

    async def prepare(self, parcel: Parcel) -> Parcel:
        """Fill in url, headers and body; raises `DeliveryFailed` where a template fails."""
        items, digest = parcel.items, None
        if len(items) > 1:  # what has no room waits for the next: it must not count as sent with these
            digest, items = digest_of(items, self._context, MAX_BODY_BYTES)
        event = alert_event(parcel.event, items[0], self._context)
        job = self._resolve_url if event["alert"]["over"] else self._url
        if self._fixed_headers and not job.programs and self._template["body"] == WHOLE_ALERT:
            filled = {"url": (), "headers": self._template["headers"], "body": event["alert"]}
        else:
            filled = await self._context.render({"url": job.templates, **self._template}, event)
        return replace(parcel, items=items, filled={"job": job, "digest": digest, **filled})

    async def send(self, parcel: Parcel) -> Sent:
        """Send the request for one alert or a digest; the detail is the status and the start of the answer.

        Raises:
            DeliveryFailed: For answers as `failure_of_status` says, without one as `failure_of_error` does.
                Message: what the templates gave cannot be sent.
        """
        items, filled, name = parcel.items, parcel.filled, parcel.items[0].delivery_id
        if filled["job"] is not self._url and items[0].notification.late and len(items) == 1:
            return Sent("not sent: it would close what has opened since")
        if len(parcel.together) > 1:
            digest = filled["digest"] or digest_of(items, self._context, MAX_BODY_BYTES)[0]
            filled, name = {**filled, "body": digest}, digest_id(parcel.together)
        detail = await self.request(filled, name)
        return Sent(detail, frozenset(item.delivery_id for item in items))

    async def request(self, filled: Any, key: str, *, url: URL | None = None, hidden: str = "") -> str:
        """Send what is filled in for url, headers and body, as `send` does; `hidden` is a secret in it."""
        call = self._call(filled, key)
        if url is not None or hidden:
            call = replace(call, url=url or call.url, private=(*call.private, hidden))
        try:
            return await self._send(call)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise failure_of_error(error, call.url.host or "", fixed=call.job.fixed_host) from None

    async def probe(self, _: str = "") -> Tried:
        """Ask a fixed URL for its methods, which starts no job; raises `DeliveryFailed` if that fails."""
        if self._url.programs:
            return Tried(unseen="its url comes from the change")
        url = self._url.fill(())
        host = one_line(url.host or "", 100)
        try:
            async with self._request("OPTIONS", url) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise failure_of_error(error, host, fixed=True) from None
        if status == 407 or (status >= 500 and status != 501):
            raise DeliveryFailed(f"{host} answers {status}", Scope.TRANSIENT)  # 405 says nothing of the job
        return Tried(note=f"{host} answers ({status} to OPTIONS); the job itself was not started")

    async def close(self) -> None:
        """Close the connections."""
        for session in self._sessions.values():
            await session.close()
            await asyncio.sleep(0)  # aiohttp closes connections in the background: its "Graceful shutdown"

    def takes(self, status: int, _: str) -> bool:
        """Tell whether an answer, by its status and the start of its text, means that the alert was taken."""
        return 200 <= status < 300

    def _call(self, filled: Any, delivery_id: str) -> _Call:
        job = filled.get("job", self._url)
        url = job.fill(filled["url"])
        headers = {name: header_value(name, value) for name, value in filled["headers"].items()}
        body = None if self._template["body"] is None else json_body(filled["body"])
        ours = {"webhook-id": delivery_id, "Idempotency-Key": delivery_id}
        if self._signer is not None:
            now = self._context.clock().astimezone(UTC)
            ours["webhook-timestamp"] = str(int(now.timestamp()))
            ours["webhook-signature"] = self._signer.sign(delivery_id, now, (body or b"").decode())
        usual = {"Accept-Encoding": "identity"} | ({"Content-Type": "application/json"} if body else {})
        set_by_rule = {name.lower() for name in headers}
        usual = {name: value for name, value in usual.items() if name.lower() not in set_by_rule}
        return _Call(job, url, usual | headers | ours, body, tuple(headers.values()))

    @contextlib.asynccontextmanager
    async def _request(self, method: str, url: URL, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        proxy = self._proxy(str(url))
        if proxy is not None and not self._private:
            async with asyncio.timeout(self._limits.connect):
                await judge_host(refusal, url.host or "", self._resolver)
        session = self._session(direct=proxy is None)
        async with session.request(method, url, allow_redirects=False, proxy=proxy, **more) as answer:
            yield answer

    async def _send(self, call: _Call) -> str:
        async with self._request(self._method, call.url, headers=call.headers, data=call.body) as answer:
            start = await read_start(answer, self._text_within.total_seconds())
        text = one_line(call.hide(start), MAX_SHOWN_ANSWER_CHARS)
        reason = f"{answer.status}: {text}" if text else str(answer.status)
        if self.takes(answer.status, start):
            return reason
        if 300 <= answer.status < 400:
            reason = f"{answer.status}: a redirect, which is not followed"
        wait = parse_retry_after(answer.headers.get("Retry-After"), self._context.clock())
        raise failure_of_status(
            answer.status,
            reason,
            retry_after=wait,
            # What is wrong with each message alike is a matter of the destination; but where the catalog
            # fills a part in, one bad entity must not hold up all others.
            fixed=not call.job.programs,
            fixed_caller=call.job.fixed_host and self._fixed_headers,
            unsure=answer.status in TOO_LATE,
        )

    def _proxy(self, url: str) -> str | None:
        return self._context.network.proxy(url) if self._proxied else None

    def _session(self, *, direct: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(direct)
        if session is None or session.closed:
            # The proxy's own address is the operator's choice, and mostly a private one.
            judge = refusal if direct and not self._private else lambda _: ""
            session = self._sessions[direct] = aiohttp.ClientSession(
                connector=connector(judge, self._resolver if direct else None, self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._limits,
                auto_decompress=False,  # a small answer that unpacks to gigabytes stays small
            )
        return session


async def _dry_run(
    settings: HttpDestination,
    item: Item,
    event: Mapping[str, Any],
    context: NotifierContext,
) -> str:
    event = alert_event(event, item, context)
    address = settings.resolve_url if event["alert"]["over"] and settings.resolve_url else settings.url
    try:
        url = JobUrl(address.get_secret_value(), settings.allow_hosts)
    except SettingsError as error:
        raise DeliveryFailed(str(error), Scope.MESSAGE) from None
    headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
    template = {"url": url.templates, "headers": headers, "body": settings.template}
    filled = await context.render(template, event)
    # They may hold secrets, so they are not shown; but what cannot be sent is said here, too.
    url.fill(filled["url"])
    for name, value in filled["headers"].items():
        header_value(name, value)
    if settings.template is None:
        return settings.method
    json_body(filled["body"])
    return f"{settings.method} {json.dumps(filled['body'], ensure_ascii=False)}"


HTTP_KIND = Kind(HttpDestination, HttpNotifier, _dry_run)
