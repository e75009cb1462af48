"""What the API answers and takes about silences."""

from datetime import datetime, timedelta
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.model.silence import ANY
from app.web.api.models import Answer, Time


class SilenceOut(Answer):
    """A silence mutes alerts for a while."""

    id: int
    rule: str
    blueprint: str
    entity: str
    team: str
    starts_at: datetime
    ends_at: datetime
    author: str
    comment: str
    silenced: int
    """How many alerts it has muted."""


class SilenceIn(BaseModel):
    """A silence. At least one of the four patterns is needed: `*`, `?` and `[…]` match."""

    model_config = ConfigDict(extra="forbid")

    rule: str = ANY
    blueprint: str = ANY
    entity: str = ANY
    team: str = ANY
    comment: Annotated[str, Field(min_length=1, max_length=500)]
    starts_at: Time | None = None
    """Not given: now."""
    ends_at: Time | None = None
    seconds: Annotated[int, Field(gt=0, le=366 * 86400)] | None = None
    """In place of `ends_at`: for how long."""

    @model_validator(mode="after")
    def _require_one_end(self) -> Self:
        if (self.ends_at is None) == (self.seconds is None):
            raise ValueError("give either ends_at or seconds")
        return self

    def end(self, now: datetime) -> datetime:
        """Return when it ends, as given or `seconds` after it begins."""
        return self.ends_at or max(now, self.starts_at or now) + timedelta(seconds=self.seconds or 0)


class SilenceEdit(BaseModel):
    """What to change of a silence that has not ended; what is not given stays."""

    model_config = ConfigDict(extra="forbid")

    starts_at: Time | None = None
    """Only where it has not begun."""
    ends_at: Time | None = None
    comment: Annotated[str, Field(min_length=1, max_length=500)] | None = None


class SilencePreviewOut(Answer):
    """What a silence would cover."""

    incidents: int
    """Open incidents, now."""
    alerts: int
    """Alerts of the last 24 hours."""
