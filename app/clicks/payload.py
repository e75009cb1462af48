"""Reads what Slack sends of a click: pure.

Rules: https://docs.slack.dev/reference/interaction-payloads (block_actions, view_submission)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.model.incident import Person
from app.model.notification import one_line
from app.notifier.slack.buttons import ACTIONS, MORE, OF_A_DIGEST, OTHER, SILENCING, WHY, About

MAX_ID_CHARS = 200
MAX_CLICKER_CHARS = 80

_Id = Annotated[str, Field(max_length=MAX_ID_CHARS)]
_Text = Annotated[str, Field(max_length=4_000)]


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class _User(_Lenient):
    id: _Id
    name: _Text = ""
    username: _Text = ""
    team_id: _Id = ""


class _Named(_Lenient):
    id: _Id = ""


class _Option(_Lenient):
    value: _Text = ""


class _Action(_Lenient):
    action_id: _Text
    block_id: _Text = ""
    selected_option: _Option | None = None


class _Container(_Lenient):
    message_ts: _Id = ""


class _BlockActions(_Lenient):
    type: Literal["block_actions"]
    user: _User
    trigger_id: _Id = ""
    response_url: _Text = ""
    channel: _Named = _Named()
    container: _Container = _Container()
    actions: Annotated[tuple[_Action, ...], Field(max_length=25)] = ()


class _Values(_Lenient):
    values: dict[str, dict[str, Any]] = Field(default_factory=dict)


class _View(_Lenient):
    id: _Id
    callback_id: _Text = ""
    private_metadata: _Text = ""
    state: _Values = _Values()


class _Submission(_Lenient):
    type: Literal["view_submission"]
    user: _User
    trigger_id: _Id = ""
    view: _View


_METADATA: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])


class Came(StrEnum):
    """What came of a click."""

    DONE = "done"
    NOTHING = "nothing"
    """It was so already, or is over."""
    REFUSED = "refused"
    """The person may not."""
    REJECTED = "rejected"
    """It is not proven to come from Slack."""
    FAILED = "failed"
    """Slack does not say what has to be known, or does not open a form."""


@dataclass(frozen=True, slots=True)
class Click:
    """A click on one of our buttons.

    Attributes:
        id: The same for every copy of this click, and for no other click.
        action: The button's: one of `ACTIONS`.
        choice: What was chosen from a menu; empty: it is no menu.
        about: The incident that the button is about; None: it stands on a digest.
        person: Who has clicked.
        team: The id of their workspace, or of their organization on an Enterprise Grid.
        channel: The id of the channel.
        message_ts: The message in it.
        response_url: Where an answer for this person alone is posted; a secret; empty: nowhere.
        trigger_id: Opens a form for this person, for 3 s.
        fields: What was written into a form, by the field's name; None: it is no form.
    """

    id: str
    action: str
    choice: str
    about: About | None
    person: Person
    team: str
    channel: str = ""
    message_ts: str = ""
    response_url: str = field(default="", repr=False)
    trigger_id: str = ""
    fields: Mapping[str, str] | None = None


def read_click(payload: object, envelope_id: str = "") -> Click | None:
    """Read a payload; None: it is of no button or form of ours that does something.

    Args:
        payload: The JSON value that Slack has sent.
        envelope_id: The socket's name for it; empty: it came by HTTP.

    Raises:
        ValueError: It is not as Slack sends it.
    """
    if not isinstance(payload, Mapping):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - as pydantic raises it
    if payload.get("type") == "block_actions":
        clicked = _BlockActions.model_validate(payload)
        ours = (action for action in clicked.actions if action.action_id in ACTIONS)
        return _of_block(clicked, action, envelope_id) if (action := next(ours, None)) else None
    if payload.get("type") == "view_submission":
        submitted = _Submission.model_validate(payload)
        return _of_form(submitted, envelope_id) if submitted.view.callback_id == SILENCING else None
    return None


def _of_block(clicked: _BlockActions, action: _Action, envelope_id: str) -> Click | None:
    choice = action.selected_option.value if action.selected_option else ""
    about = About.parse(action.block_id)
    if (about is None and action.block_id != OF_A_DIGEST) or (action.action_id == MORE and choice != WHY):
        return None
    return Click(
        id=_id(clicked.trigger_id, envelope_id),
        action=action.action_id,
        choice=choice,
        about=about,
        person=_person(clicked.user),
        team=clicked.user.team_id,
        channel=clicked.channel.id,
        message_ts=clicked.container.message_ts,
        response_url=clicked.response_url,
        trigger_id=clicked.trigger_id,
    )


def _of_form(submitted: _Submission, envelope_id: str) -> Click:
    # Slack gives back what we have put in, but a stranger's request must not get further than this either.
    metadata = _METADATA.validate_json(submitted.view.private_metadata)
    values = {
        name: str(field.get("value") or "")
        for block in submitted.view.state.values.values()
        for name, field in block.items()
        if isinstance(field, Mapping)
    }
    return Click(
        id=_id(submitted.trigger_id or submitted.view.id, envelope_id),
        action=SILENCING,
        choice=OTHER,
        about=About.parse(metadata.get("block_id", "")),
        person=_person(submitted.user),
        team=submitted.user.team_id,
        channel=metadata.get("channel", ""),
        message_ts=metadata.get("message_ts", ""),
        response_url=metadata.get("response_url", ""),
        fields=values,
    )


def form_metadata(click: Click) -> dict[str, str]:
    """Make what a form carries, so that its click is about the same as the one that opened it."""
    return {
        "block_id": click.about.block_id if click.about else OF_A_DIGEST,
        "channel": click.channel,
        "message_ts": click.message_ts,
        "response_url": click.response_url,
    }


def _person(user: _User) -> Person:
    name = one_line(user.name or user.username, MAX_CLICKER_CHARS)
    return Person(name or user.id, "slack", one_line(user.id, MAX_CLICKER_CHARS))


def _id(trigger_id: str, envelope_id: str) -> str:
    # The same click may come over two sockets, in two envelopes.
    if not (name := trigger_id or envelope_id):
        raise ValueError("it has no trigger_id")
    return name
