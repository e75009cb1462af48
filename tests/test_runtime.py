"""What the runtime makes of settings."""

from typing import Any

import pytest

from app.jq.runner import Jq
from app.runtime.configured import notifier_context
from app.settings import Settings

TOKEN = "an-admin-token-of-some-length"


@pytest.mark.parametrize(
    ("settings", "page"),
    [
        (
            {"webhook_url": "https://alerts.example.com", "admin_token": TOKEN},
            "https://alerts.example.com/changes",
        ),
        (
            {"webhook_url": "https://example.com/port/api/slack", "admin_token": TOKEN},
            "https://example.com/port/changes",
        ),
        ({"webhook_url": "https://alerts.example.com"}, None),
        ({"admin_token": TOKEN}, None),
    ],
)
def test_the_address_of_the_page(settings: dict[str, Any], page: str | None) -> None:
    """There is one where there is a page and its address is known."""
    configured = Settings(_env_file=None, accept_unsigned=True, **settings)
    assert notifier_context(configured, Jq(), None, None).page_url == page
