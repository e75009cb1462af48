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
        ({"page_url": "https://alerts.example.com", "admin_token": TOKEN}, "https://alerts.example.com"),
        ({"page_url": "https://example.com/port/", "admin_token": TOKEN}, "https://example.com/port"),
        ({"page_url": "https://alerts.example.com"}, None),
        ({"webhook_url": "https://alerts.example.com", "admin_token": TOKEN}, None),
        ({"admin_token": TOKEN}, None),
    ],
)
def test_the_address_of_the_page(settings: dict[str, Any], page: str | None) -> None:
    """There is one where there is a page, and PAGE_URL is set: Port's way in need not be people's."""
    configured = Settings(_env_file=None, accept_unsigned=True, **settings)
    assert notifier_context(configured, Jq(), None, None).page_url == page
