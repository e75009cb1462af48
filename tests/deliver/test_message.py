"""What a message says by the rules at the moment of sending, and whether it is still wanted."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.deliver.message import Messages, as_named_now, with_mention, with_own_words
from app.jq.runner import Jq
from app.model.incident import Step
from app.model.notification import Notification, Part
from app.rules.rule import Rule, RuleSet
from tests.notifier.helpers import notification

EVENT = {"context": {"entityIdentifier": "checkout"}, "diff": {"after": {"properties": {"cpu": 85}}}}
HERE = "<!here>"


def rules(**facts: Any) -> RuleSet:
    """Make rules of one, which the usual notification is of."""
    return RuleSet([Rule.model_validate({"name": "health", "when": {"property": "healthStatus"}, **facts})])


def text_of(parts: tuple[Part, ...]) -> str:
    """Join the parts of a message."""
    return "".join(part.text for part in parts)


@pytest.fixture
async def jq() -> AsyncIterator[Jq]:
    """Real jq."""
    runner = Jq()
    yield runner
    await runner.close()


async def test_the_rules_own_words(jq: Jq) -> None:
    """Title and message are filled from Port's event; text of the catalog is marked as such."""
    own = rules(
        title="{{ .context.entityIdentifier }} is hot", message="cpu {{ .diff.after.properties.cpu }}"
    )
    made = await with_own_words(notification(), own, EVENT, jq)
    assert text_of(made.own_title) == "checkout is hot"
    assert [(part.text, part.literal) for part in made.message] == [("cpu ", True), ("85", False)]


async def test_a_template_that_fails_shows_in_its_place(jq: Jq) -> None:
    """The alert goes out all the same."""
    made = await with_own_words(notification(), rules(message="so: {{ error(1) }}"), EVENT, jq)
    assert text_of(made.message).startswith("so: [")


@pytest.mark.parametrize("in_force", [rules(), RuleSet([])])
async def test_without_words_it_stays_as_it_is(in_force: RuleSet, jq: Jq) -> None:
    """So does that of a rule which is not there any more."""
    assert await with_own_words(notification(), in_force, EVENT, jq) == notification()


@pytest.mark.parametrize(
    ("step", "mention"), [(Step.OPENED, HERE), (Step.RESOLVED, ""), (Step.REMINDED, HERE), (Step.SETTLED, "")]
)
def test_whom_it_mentions(step: Step, mention: str) -> None:
    """Those whom its rule mentions, at the steps that call for somebody."""
    assert with_mention(notification(step=step), rules(mention=HERE)).mention == mention


@pytest.mark.parametrize(
    ("alert", "in_force", "reason"),
    [
        (notification(step=Step.REMINDED), RuleSet([]), "its rule is no longer there"),
        (notification(step=Step.REMINDED), rules(), None),
        (notification(step=Step.RESOLVED), RuleSet([]), None),
    ],
)
def test_what_is_no_longer_wanted(alert: Notification, in_force: RuleSet, reason: str | None) -> None:
    """A reminder whose rule is gone; the end of an incident is, whatever has become of its rule."""

    async def no_body(_: str) -> None:
        raise AssertionError

    assert Messages(no_body, Jq(), in_force).why_not(alert) == reason


@pytest.mark.parametrize(
    ("context", "title", "expected"),
    [
        ({"entityIdentifier": "old"}, "Old", "new is New (was old)"),
        ({"entity": "old"}, None, "new is  (was old)"),
        ({"entityIdentifier": "new"}, "Old", "new is Old (was old)"),
    ],
)
async def test_an_entity_that_was_renamed_since(
    jq: Jq, context: dict[str, Any], title: str | None, expected: str
) -> None:
    """Templates call it as the alert does; a name that the change itself took away stays."""
    before = {"identifier": "old" if "new" in context.values() else "older", "title": title}
    event = {"context": context, "diff": {"before": before, "after": before | {"identifier": "old"}}}
    alert = notification(entity="new", title="New")
    words = rules(title="{{ .context[] }} is {{ .diff.after.title }} (was {{ .diff.before.identifier }})")
    made = await with_own_words(alert, words, as_named_now(event, alert), jq)
    assert text_of(made.own_title) == expected.replace("was old", f"was {before['identifier']}")
    assert as_named_now({"resourceType": "run", **event}, alert) == {"resourceType": "run", **event}
