"""What several notifiers need."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.notifier.base import duration, entity_url, name_of, timestamp


@pytest.mark.parametrize(
    ("blueprint", "entity", "path"),
    [
        ("deploymentConfig", "checkout-prod", "deploymentConfigEntity?identifier=checkout-prod"),
        ("a/b", "x/y?z=1&w#f", "a%2FbEntity?identifier=x%2Fy%3Fz%3D1%26w%23f"),
        ("café", "🚀 é", "caf%C3%A9Entity?identifier=%F0%9F%9A%80%20%C3%A9"),
        ("b", "a|b>c<d%", "bEntity?identifier=a%7Cb%3Ec%3Cd%25"),
        ("", "", "Entity?identifier="),
    ],
)
def test_the_address_of_an_entity(blueprint: str, entity: str, path: str) -> None:
    """Identifiers are quoted, so that none of them can end the address or the link around it."""
    for base in ("https://app.port.io", "https://app.port.io/"):
        assert entity_url(base, blueprint, entity) == f"https://app.port.io/{path}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("newRelicUrl", "New Relic"),
        ("sentryUrl", "Sentry"),
        ("prometheusUrl", "Prometheus"),
        ("runbook_link", "Runbook"),
        ("on-call-page", "On call page"),
        ("k8sDashboard", "K8s Dashboard"),
        ("DashboardURL", "Dashboard"),
        ("url", "Url"),
        ("curl", "Curl"),
        ("", ""),
    ],
)
def test_a_property_as_words(name: str, text: str) -> None:
    """A button says what it leads to, not what the property is called."""
    assert name_of(name) == text


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(0), "0 s"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=12, seconds=40), "12 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=1), "1 h"),
        (timedelta(hours=3, minutes=5), "3 h 5 min"),
        (timedelta(hours=23, minutes=59), "23 h 59 min"),
        (timedelta(days=1), "1 d"),
        (timedelta(days=2, hours=4, minutes=50), "2 d 4 h"),
        (timedelta(days=4000), "4000 d"),
    ],
)
def test_a_span_as_people_say_it(span: timedelta, text: str) -> None:
    """Two units at most, the smaller one only if it says something."""
    assert duration(span) == text


def test_times_are_utc() -> None:
    """A time of another zone is shown as the same moment in UTC."""
    berlin = timezone(timedelta(hours=2))
    assert timestamp(datetime(2026, 6, 9, 14, 28, 20, 999, tzinfo=berlin)) == "2026-06-09 12:28:20 UTC"
    assert timestamp(datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC)) == "2026-06-09 12:28:20 UTC"
