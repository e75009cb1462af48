"""What stands in a suite file."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from app.model.incident import Severity
from app.rules.values import DURATION, UNITS, Duration, EntityAction, Strict

EVERYBODY = "anyone"
ACTS = ("entity", "body", "silence", "acknowledge", "unacknowledge", "reconcile", "fails", "works")
"""What can happen in a step."""
LOOKS = ("told", "not_told", "resolved", "because")
"""What a step can look at."""
OF_ENTITY = ("set_", "title", "team", "relations", "scorecards", "timer", "rename")

AlertStep = Literal[
    "opened",
    "changed",
    "resolved",
    "noticed",
    "reminded",
    "flapping",
    "settled",
    "notice",
    "acknowledged",
    "escalated",
]


def _offset(value: Any) -> Any:
    parts = DURATION.fullmatch(value[1:].replace(" ", "")) if isinstance(value, str) else None
    if parts is None or not any(parts.groups()) or not value.startswith("+"):
        raise ValueError("must be a time since the test began, such as +0s, +4m or +1h30m")
    numbers = (int(number or 0) for number in parts.groups())
    return timedelta(**dict(zip(UNITS.values(), numbers, strict=True)))


def _several(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple) else [value]


def _by_destination(value: Any) -> Any:
    """Bring what was told into one shape: for each destination its alerts, None: whatever they are."""
    if isinstance(value, str | list) and all(isinstance(name, str) for name in _several(value)):
        return dict.fromkeys(_several(value))
    if not isinstance(value, dict):
        return value
    return {name: _alerts(alerts) for name, alerts in value.items()}


def _alerts(value: Any) -> Any:
    several = value if isinstance(value, list) else [value]
    return [{"step": alert} if isinstance(alert, str) else alert for alert in several]


Offset = Annotated[
    timedelta,
    BeforeValidator(_offset),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\+ *([0-9]+d)? *([0-9]+h)? *([0-9]+m)? *([0-9]+s)? *$",
            "examples": ["+0s", "+4m", "+1h30m"],
        }
    ),
]
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    BeforeValidator(_several, json_schema_input_type=Text | tuple[Text, ...]),
]


class GivenEntity(Strict):
    """An entity as it is when a test begins."""

    blueprint: Text
    """Its blueprint's identifier."""
    title: Text | None = None
    """Its title."""
    team: Texts | None = None
    """The team that owns it, or a list of teams."""
    properties: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Its properties by identifier."""
    relations: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Its relations by identifier: the identifier of the related entity, or a list of them."""
    scorecards: Annotated[dict[str, str], Field(default_factory=dict)]
    """Its level on each scorecard, by the scorecard's identifier."""


class SilenceSpan(Strict):
    """A silence, as `silence add` adds one."""

    for_: Duration = Field(alias="for")
    """How long it lasts."""
    rule: Text = "*"
    """Only alerts of this rule; a pattern."""
    blueprint: Text = "*"
    """Only of this blueprint; a pattern."""
    entity: Text = "*"
    """Only of this entity; a pattern."""
    team: Text = "*"
    """Only of this team's entities; a pattern."""


Silencing = Annotated[
    Annotated[SilenceSpan, Tag("span")] | Annotated[Literal["end"], Tag("end")],
    Discriminator(lambda value: "end" if isinstance(value, str) else "span"),
]


class ExpectedAlert(Strict):
    """What an alert must be; what is not given may be anything."""

    step: AlertStep | None = None
    """The step of the incident; `noticed` is an alert of a rule that has no incidents."""
    rule: Text | None = None
    """The rule's name."""
    entity: Text | None = None
    """The entity's identifier."""
    severity: Severity | None = None
    """How bad it is."""
    says: Texts | None = None
    """A part of what is sent, or a list of parts."""
    digest: bool | None = None
    """Whether it comes together with others, in one message."""


Told = Annotated[
    dict[str, Annotated[tuple[ExpectedAlert, ...], Field(min_length=1)] | None],
    Field(min_length=1),
    BeforeValidator(
        _by_destination,
        json_schema_input_type=Text
        | tuple[Text, ...]
        | dict[str, AlertStep | ExpectedAlert | tuple[AlertStep | ExpectedAlert, ...]],
    ),
]


class Moment(Strict):
    """A step of a test: what happens at a time, and what is to be seen then."""

    at: Offset | None = None
    """When, since the test began; without it at the same time as the step before."""
    entity: Text | None = None
    """The entity that changes."""
    blueprint: Text | None = None
    """Its blueprint; needed if the entity was not named before."""
    set_: Annotated[dict[str, Any] | None, Field(alias="set")] = None
    """The properties that change; null removes one, dots lead into objects."""
    title: Text | None = None
    """Its title from now on."""
    team: Texts | None = None
    """The owning team from now on, or a list."""
    relations: dict[str, Any] | None = None
    """The relations that change."""
    scorecards: dict[str, str | None] | None = None
    """The scorecards on which its level changes; null: the body does not name it, which changes nothing."""
    action: EntityAction = "UPDATE"
    """What happens to the entity."""
    timer: Text | None = None
    """With `TIMER_EXPIRED`, the timer property that ran out."""
    rename: Text | None = None
    """Its identifier from now on."""
    happened: Offset | None = None
    """When it changed in Port, if the webhook comes late, at `at`."""
    missed: bool = False
    """Port sends no webhook of it, so only `reconcile` finds it."""
    body: Text | dict[str, Any] | None = None
    """A whole body as Port sends it, or the name of a file that has one; its time becomes `at`."""
    silence: Silencing | None = None
    """A silence begins; or `end`: all of them end."""
    acknowledge: Text | None = None
    """Somebody acknowledges the open incidents of this entity."""
    unacknowledge: Text | None = None
    """Somebody takes that back."""
    reconcile: Literal[True] | None = None
    """The listener compares Port with the last known state."""
    fails: Texts | None = None
    """These destinations refuse everything from now on, as an archived channel does."""
    works: Texts | None = None
    """These destinations work again, and are released."""
    told: Told | None = None
    """What destinations were told since they were last looked at: names, or by name all of it, in order."""
    not_told: Annotated[Texts | None, Field(alias="not told")] = None
    """The destinations that were told nothing since then; a pattern, `*` for all others."""
    resolved: Texts | None = None
    """The destinations that were told since then that an incident is over."""
    because: Texts | None = None
    """A part of the reason of the last decision, or of why its alerts were not sent; or a list of parts."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        acts = [key for key in ACTS if getattr(self, key) is not None]
        if len(acts) > 1:
            raise ValueError(f"has {' and '.join(acts)}: make a step of each")
        if mistake := self._wrong_change() or self._wrong_look():
            raise ValueError(mistake)
        if not acts and not any(getattr(self, key) is not None for key in LOOKS):
            raise ValueError(
                "does nothing: give what happens (entity, body, silence, acknowledge, reconcile, fails,"
                " works) or what is to be seen (told, not told, resolved, because)"
            )
        return self

    def _wrong_change(self) -> str | None:
        changed = [key.rstrip("_") for key in OF_ENTITY if getattr(self, key) is not None]
        if self.entity is None and (changed or self.action != "UPDATE" or self.missed):
            key = (changed or (["missed"] if self.missed else ["action"]))[0]
            return f"{key}: needs `entity`, which changes"
        if (self.action == "TIMER_EXPIRED") != (self.timer is not None):
            return "timer: belongs to action: TIMER_EXPIRED, and that needs a timer"
        if self.entity is not None and self.action == "UPDATE" and not changed:
            return "changes nothing of the entity: give set, title, team, relations, scorecards or rename"
        if self.happened is not None and self.entity is None and self.body is None:
            return "happened: needs a change"
        if self.happened is not None and self.at is not None and self.happened > self.at:
            return "happened: must not be after `at`, when its webhook comes"
        return None

    def _wrong_look(self) -> str | None:
        names = [*(self.told or ()), *(self.resolved or ()), *(self.not_told or ())]
        twice = next((name for name in names if names.count(name) > 1), None)
        return (
            twice
            and f"looks at {twice} twice; write all that it is told: told: {{{twice}: [opened, resolved]}}"
        )

    def destinations(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield the keys that name destinations, with the names."""
        for key in ("told", "not_told", "resolved", "fails", "works"):
            if names := getattr(self, key):
                yield key.replace("_", " "), tuple(names)


class SuiteTest(Strict):
    """One test: a story, from its beginning."""

    name: Text
    """What it shows."""
    entities: Annotated[dict[str, GivenEntity], Field(default_factory=dict)]
    """Entities of this test alone, by identifier."""
    timeline: Annotated[tuple[Moment, ...], Field(min_length=1)]
    """Its steps, in the order of time."""


class SuiteFile(Strict):
    """A suite: the tests of a rules file."""

    version: Literal[1]
    """The version of the format."""
    rules: Text
    """The rules file, as seen from the folder of the suite."""
    environment: Annotated[dict[str, str], Field(default_factory=dict)]
    """What `${NAME}` in the rules file stands for; for other names a value is made up."""
    entities: Annotated[dict[str, GivenEntity], Field(default_factory=dict)]
    """The entities that there are when each test begins, by identifier."""
    tests: Annotated[tuple[SuiteTest, ...], Field(min_length=1)]
    """The tests."""
