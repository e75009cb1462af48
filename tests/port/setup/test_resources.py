"""What bootstrap makes, as data: addresses and names."""

import pytest

from app.errors import SettingsError
from app.port.setup import resources

HOOK = "https://listener.example.com/api/slack"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("https://listener.example.com", "https://listener.example.com/api/slack"),
        ("https://listener.example.com/", "https://listener.example.com/api/slack"),
        ("https://example.com/port/", "https://example.com/port/api/slack"),
        (HOOK, HOOK),
        (f"{HOOK}/", HOOK),
        ("https://smee.io/AbC123", "https://smee.io/AbC123"),
        (" https://smee.io/AbC123/ ", "https://smee.io/AbC123"),
        ("http://localhost:3000/own-channel", "http://localhost:3000/own-channel"),
    ],
)
def test_webhook_address(given: str, address: str) -> None:
    """A base address gets the listener's path; a channel stays, on smee.io or because it is SMEE_URL."""
    assert resources.webhook_address(given, "http://localhost:3000/own-channel/") == address


@pytest.mark.parametrize("given", ["listener.example.com", "ftp://example.com", "https://", ""])
def test_webhook_address_that_is_none(given: str) -> None:
    """What is not a URL is refused by the name of its setting."""
    with pytest.raises(SettingsError, match="WEBHOOK_URL"):
        resources.webhook_address(given)


def test_automation_names_do_not_meet() -> None:
    """No two blueprints and timers share an automation, and the name has no character that Port refuses."""
    names = {
        resources.automation("a/b", HOOK)["identifier"],
        resources.automation("a_b", HOOK)["identifier"],
        resources.timer_automation("a", "b_c", HOOK)["identifier"],
        resources.timer_automation("a_b", "c", HOOK)["identifier"],
        resources.run_automation("a/b", HOOK)["identifier"],
    }
    assert names == {
        "a=2Fb_change_listener",
        "a_b_change_listener",
        "a.b_c_timer_listener",
        "a_b.c_timer_listener",
        "a=2Fb_run_listener",
    }
