"""Logs: events, without secrets."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from io import BytesIO, TextIOWrapper

import pytest
import structlog

from app.observe.logs import configure_logging


def test_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    """An event is one JSON object: time, level, a constant message, fields."""
    configure_logging("INFO", "auto")
    structlog.get_logger("app.x").info("it happened", number=4, text="café")
    event = json.loads(capsys.readouterr().err)
    assert list(event)[:3] == ["time", "level", "event"]
    assert (event["event"], event["number"], event["text"]) == ("it happened", 4, "café")


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    """What is below the level is not shown, and libraries never show their DEBUG."""
    configure_logging("DEBUG", "json")
    structlog.get_logger("app.x").debug("shown")
    logging.getLogger("slack_sdk.webhook").debug("hidden")
    logging.getLogger("httpx").info("hidden")
    configure_logging("WARNING", "json")
    structlog.get_logger("app.x").info("hidden")
    shown = capsys.readouterr().err
    assert "shown" in shown
    assert "hidden" not in shown


@pytest.mark.parametrize("style", ["json", "text"])
def test_secrets_are_hidden(capsys: pytest.CaptureFixture[str], style: str) -> None:
    """A secret is taken out wherever it stands: message, field, exception, library."""
    configure_logging("INFO", "json" if style == "json" else "text", ["hush-hush-hush", "hush-hush"])
    structlog.get_logger("app.x").info("hush-hush", field="a hush-hush-hush b", deep={"x": ["hush-hush"]})
    logging.getLogger("uvicorn.error").warning("path /hush-hush-hush")
    try:
        local_variable = "payload-in-a-local-variable"
        raise ValueError(  # noqa: TRY301 - to log it
            f"hush-hush {len(local_variable)}"
        )
    except ValueError:
        structlog.get_logger("app.x").exception("failed")
    shown = capsys.readouterr().err
    assert "hush" not in shown
    assert "payload-in-a-local-variable" not in shown
    assert shown.count("[hidden]") >= 5
    assert "ValueError" in shown


@pytest.mark.parametrize("secret", ["hush\\hush", "hush\nhush", "hush'\"hush", "hüsh\\hush"])
@pytest.mark.parametrize("quote", [str, repr, json.dumps])
def test_quoted_secrets_are_hidden(
    capsys: pytest.CaptureFixture[str], secret: str, quote: Callable[[str], str]
) -> None:
    """A library quotes what it was given in its message, which a line of JSON quotes once more."""
    configure_logging("INFO", "json", [secret])
    structlog.get_logger("app.x").info("failed", reason=f"cannot use {quote(secret)}")
    assert "[hidden]" in json.loads(line := capsys.readouterr().err)["reason"]
    assert "hush" not in line


def test_short_and_common_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """A header's value such as `prod` is any word: it stays, and so does what the source says."""
    secrets = ["prod", "true", '"', "[", "delivery", "warning", "app.deliver", "time"]
    configure_logging("INFO", "json", secrets)
    structlog.get_logger("app.deliver").warning("delivery_failed", queue="prod", ok=True, reason="a delivery")
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["level"], event["logger"]) == ("delivery_failed", "warning", "app.deliver")
    assert (event["queue"], event["ok"], event["reason"]) == ("prod", True, "a [hidden]")


class Odd:
    """What JSON has no form for; its text has a secret."""

    def __repr__(self) -> str:
        return 'Odd("hush-hush")'


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_line_is_always_json(encoding: str) -> None:
    """Whatever a field holds, whatever the stream can write, and whichever text a secret is."""
    stream = TextIOWrapper(BytesIO(), encoding, errors="backslashreplace", write_through=True)
    with redirect_stderr(stream):
        configure_logging("INFO", "json", ['hush-hush"}, {', "hush-hush", "hush\nhush"])
        structlog.get_logger("app.x").info(
            "odd",
            number=float("nan"),
            keys={("a", 1): float("inf"), None: Odd()},
            many={"x", "y"},
            text='say "hush-hush"}, { \ud83d 🚀 ł\n hush\nhush',
            data=b"hush-hush \xff",
        )
    line = stream.buffer.getvalue().decode(encoding)
    event = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert "hush" not in line
    assert "🚀 ł" in event["text"]
    assert event["keys"]["('a', 1)"] == "inf"


def test_a_log_that_cannot_be_written() -> None:
    """Where there is no room for the log, or nobody reads it, the program goes on."""
    read, write = os.pipe()
    os.close(read)
    with redirect_stderr(os.fdopen(write, "w")) as unread:
        configure_logging("INFO", "json")
        structlog.get_logger("app.x").info("nobody hears this")
        structlog.get_logger("app.x").error("nor this")
        with suppress(BrokenPipeError):  # closing it tries once more
            unread.close()
        structlog.get_logger("app.x").error("the stream is closed")


def test_the_service_does_without_what_draws_tables() -> None:
    """structlog would import rich, a tenth of the start; what needs it still can."""
    said = subprocess.run(
        [sys.executable, "-c", "import app.main, sys; print('rich' in sys.modules); import rich.table"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "False\n"
