"""From a smee channel to a listener on this machine, with pysmee and around its faults. For development only.

Of pysmee its event source (`sseclient`) and its reading of an event's headers are used. What it lacks is done
here: text outside ASCII arrives whole, the body is the very text that smee sent, changes go on one at a time
and in order, a stream that ends or falls silent is opened again at once, then after pauses, posts have a time
limit.

smee keeps nothing and answers Port 200 all the same: changes while no tunnel is connected are lost.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import httpx
import requests
import sseclient
import urllib3
from pysmee.pysmee import decode_data

from app.errors import CERTIFICATE_ADVICE, ListenerError
from app.model.notification import one_line
from app.network import DIRECT, Network
from app.port.refusal import MAX_REFUSAL_CHARS, UNREACHED, why_unreached
from app.port.setup.probe import MEANINGS

SMEE_SERVER = "https://smee.io"
SMEE_CONNECT_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 0.1
STREAM_PAUSE_SECONDS = 1.0
"""The longest pause between tries; the first try follows at once, and each pause is longer by the first."""
SILENCE_SECONDS = 45.0
"""smee pings every 30 s (https://github.com/probot/smee.io, lib/server.js)."""
POST_SECONDS = 10.0
STOP_TICK_SECONDS = 0.1
"""How long a stop may go unnoticed; Windows gives Ctrl-C no way into a wait without end."""
MAX_SHOWN_CHARS = 100
Texts = SimpleQueue[str]

BYTES_AS_TEXT = "cp437"
"""A character for each of the 256 bytes, and no line break beyond those of ASCII.

sseclient decodes what has arrived as soon as an event is complete, wherever a character of the next event is
cut, and splits lines where `str.splitlines` does: at U+0085, U+2028 and U+2029 too, which JSON may hold.
So it is given the bytes in this disguise, and they are decoded when the event is whole. Latin-1, which it
takes by itself, will not do: there the second byte of ``Å`` is U+0085.
"""

NOT_FORWARDED = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""They are about the connection to smee. Rule: RFC 9110, 7.6.1."""


def new_channel(server: str = SMEE_SERVER, *, network: Network = DIRECT) -> str:
    """Ask a smee server for a new channel, and return the channel's URL.

    Raises:
        ListenerError: The server cannot be reached, or is no smee server.
    """
    _check(server)
    url = f"{server.rstrip('/')}/new"
    try:
        answer = httpx.get(url, timeout=SMEE_CONNECT_SECONDS, **network.httpx(url))
        if answer.has_redirect_location:
            return str(answer.url.join(answer.headers["location"]))
    except UNREACHED as error:
        reason = one_line(why_unreached(error), MAX_REFUSAL_CHARS)
        raise ListenerError(f"no new channel from {url}: {reason}") from None
    raise ListenerError(f"no new channel from {url}: it answered {answer.status_code}. Is it a smee server?")


def run_tunnel(
    source: str,
    target: str,
    say: Callable[[str], object] = print,
    *,
    stop: threading.Event | None = None,
    post_limit: float = POST_SECONDS,
    silence: float = SILENCE_SECONDS,
    network: Network = DIRECT,
) -> None:
    """Forward what arrives at a smee channel, until `stop` is set or Ctrl-C is pressed.

    A change is posted once: whatever the answer, the next one follows. What waits when it ends is lost.

    Args:
        source: The channel's URL.
        target: The listener's URL, ``http://localhost:8080/api/slack``.
        say: Called in this thread with one line for each change that was forwarded, and for each time that
            the stream begins or ends.
        stop: Ends the tunnel within a moment; it is set when the tunnel has ended.
        post_limit: How long the listener may take to answer, in seconds.
        silence: After how many seconds without even a ping the stream counts as dead.
        network: The way to both.

    Raises:
        ListenerError: One of the URLs is none, or the tunnel itself is at fault.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    _check(source)
    _check(target)
    # No connection is kept: the listener may have closed it, or been started again, since the last change.
    limits = httpx.Limits(max_keepalive_connections=0)
    client = httpx.Client(timeout=post_limit, limits=limits, **network.httpx(target))
    stop = stop or threading.Event()
    events: Texts = SimpleQueue()
    lines: Texts = SimpleQueue()
    # Two, so that a listener that hangs does not keep us from noticing that the stream has ended. Daemons,
    # because neither a read nor a post can be called off, and neither may hold up the end of the process.
    threads = (
        threading.Thread(
            target=_receive,
            args=(network.requests(source), source, silence, events, lines, stop),
            daemon=True,
        ),
        threading.Thread(
            target=_forward,
            args=(client, target, events, lines, stop),
            daemon=True,
        ),
    )
    for thread in threads:
        thread.start()
    try:
        while not stop.is_set():
            with suppress(Empty):
                say(lines.get(timeout=STOP_TICK_SECONDS))
            if not all(thread.is_alive() for thread in threads) and not stop.is_set():
                raise ListenerError("the tunnel broke; the error is above. Please report it, and start again")
    finally:
        stop.set()


def _receive(
    session: requests.Session, source: str, silence: float, events: Texts, lines: Texts, stop: threading.Event
) -> None:
    """Put the data of each message into `events`, connecting again whenever the stream is gone."""
    last_reason, pause = "", 0.0
    while not stop.is_set():
        began = time.monotonic()
        try:
            for kind, data in _stream(session, source, silence):
                if stop.is_set():
                    return
                if kind == "ready":
                    last_reason = ""
                    lines.put(f"connected to {source}")
                elif kind == "message" and data:
                    events.put(data)
        except (OSError, urllib3.exceptions.HTTPError, ValueError) as error:
            reason = _reason(error)
            if reason != last_reason:  # once, not at every try
                lines.put(f"no stream from {source}: {reason}. Trying again; changes in between are lost")
            last_reason = reason
        # At once after a stream that lasted: each moment without one loses changes.
        pause = 0.0 if time.monotonic() - began > STREAM_PAUSE_SECONDS else pause
        stop.wait(pause)
        pause = min(pause + FIRST_PAUSE_SECONDS, STREAM_PAUSE_SECONDS)


def _stream(session: requests.Session, source: str, silence: float) -> Iterator[tuple[str, str]]:
    """Connect once, and yield the kind and the data of each event; the end is always an error."""
    try:
        client = sseclient.SSEClient(source, session=session, timeout=(SMEE_CONNECT_SECONDS, silence))
    except requests.HTTPError as refused:
        if refused.response is not None:
            refused.response.close()
        raise
    with client.resp as response:
        if "text/event-stream" not in response.headers.get("Content-Type", ""):
            raise ConnectionError("it is not a smee channel")
        response.encoding = BYTES_AS_TEXT
        client.resp_iterator = _chunks(response.raw)
        for event in client:
            yield event.event, event.data.encode(BYTES_AS_TEXT).decode(errors="replace")


def _chunks(raw: urllib3.response.BaseHTTPResponse) -> Iterator[bytes]:
    """Yield what arrives, as it arrives.

    sseclient's own way reads beneath the HTTP response, chunk headers and all, and so waits for ever where
    the response ends and the connection does not. At an end it would connect by itself, and print; an error
    that it does not know leaves that to us.
    """
    while chunk := raw.read1():
        yield chunk
    raise ConnectionError("the stream ended")


def _reason(error: Exception) -> str:
    match error:
        case requests.HTTPError(response=requests.Response(status_code=status)):
            return f"it answers {status}"
        case requests.Timeout() | urllib3.exceptions.ReadTimeoutError():
            return "it sends nothing any more"
        case requests.exceptions.SSLError():
            return f"its certificate is not valid; {CERTIFICATE_ADVICE}"
        case requests.ConnectionError():
            return "it cannot be reached"
        case ConnectionError():
            return str(error)
    return "the connection broke"


def _forward(client: httpx.Client, target: str, events: Texts, lines: Texts, stop: threading.Event) -> None:
    """Post each event, one at a time, and put a line about the result into `lines`."""
    with client:
        while not stop.is_set():
            with suppress(Empty):
                lines.put(_post(client, target, events.get(timeout=STOP_TICK_SECONDS)))


def _post(client: httpx.Client, target: str, data: str) -> str:
    """Post one event; return a line about the result."""
    entity = "an event"
    try:
        headers, _ = decode_data(data)
        text, body = _body_of(data)
        entity = _entity(body)
        forwarded = [
            (name.encode("ascii"), value.encode("latin-1"))
            for name, value in headers.items()
            if name.lower() not in NOT_FORWARDED
        ]
        answer = client.post(target, content=text.encode(), headers=forwarded)
    except (ValueError, KeyError, TypeError, RecursionError, httpx.LocalProtocolError):
        return f"left out {entity}: what smee sent is not a webhook"
    except httpx.TimeoutException:
        return f"no answer for {entity} in time: the listener at {target} hangs. The change may be lost"
    except httpx.HTTPError:
        return f"no answer for {entity}: is the listener running at {target}? The change may be lost"
    return f"{answer.status_code} {entity}{_result(answer)}"


def _body_of(data: str) -> tuple[str, Any]:
    """Return the body inside an event's data, as it is written there and as a value.

    The text is what Port signed: both come from JavaScript's ``JSON.stringify``, which puts no spaces and
    writes numbers (``1e-7``) otherwise than Python does.

    Raises:
        ValueError: It is not JSON as JavaScript writes it, or has no body.
    """
    decoder = json.JSONDecoder()
    end = 0  # at the { and then at each comma
    while True:
        name, colon = decoder.raw_decode(data, end + 1)
        value, end = decoder.raw_decode(data, colon + 1)
        if name == "body":
            return data[colon + 1 : end], value


def _entity(body: Any) -> str:
    """Name a change for the screen, by its entity; nothing is verified here."""
    for name in ("event", "context"):
        if isinstance(body, dict):
            body = body.get(name) or body
    names = (body.get("entityIdentifier"), body.get("entity")) if isinstance(body, dict) else ()
    name = next((name for name in names if name and isinstance(name, str)), "an event")
    return one_line(name, MAX_SHOWN_CHARS)


def _result(answer: httpx.Response) -> str:
    if answer.is_success:
        try:
            return f", alerts: {int(answer.json()['alerts'])}"
        except (ValueError, KeyError, TypeError):
            return ""  # it is not our listener
    return f": {MEANINGS.get(answer.status_code) or one_line(answer.text, MAX_SHOWN_CHARS)}"


def _check(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ListenerError(
            f"not a URL: {one_line(url, MAX_SHOWN_CHARS)!r}. It must look like {SMEE_SERVER}/…"
        )
