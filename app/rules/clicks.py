"""What the rules file says of clicks in Slack."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from app.rules.condition import Duration
from app.rules.values import Strict

EVERYBODY_MAY_SILENCE = timedelta(hours=4)
UserGroup = Annotated[str, Field(pattern=r"^@?[^\s@,<>]{1,80}$")]


class SlackRules(Strict):
    """Who may silence for how long by a click in Slack."""

    may_silence: tuple[UserGroup, ...] = ()
    """User groups, by handle or ID, whose members may silence for longer than 4 h; others may not."""
    longest_silence: Annotated[Duration, Field(json_schema_extra={"default": "24h"})] = timedelta(hours=24)
    """The longest silence; below 4 h, it holds for everybody."""

    @property
    def by_everybody(self) -> timedelta:
        """How long anybody in the channel may silence."""
        return min(EVERYBODY_MAY_SILENCE, self.longest_silence)
