"""What is never changed, only copied with other values."""

import dataclasses
from typing import TYPE_CHECKING, Any, Self

__all__ = ["Immutable", "immutable"]

if TYPE_CHECKING:
    from dataclasses import dataclass as immutable
else:

    def immutable(**options: Any) -> Any:
        """Make a dataclass that mypy holds frozen, for what a change has many of.

        Where the interpreter holds it as well, each field takes a thousand instructions more to set.
        """
        return dataclasses.dataclass(**options | {"frozen": False}, unsafe_hash=True)


class Immutable:
    """The base of frozen dataclasses of which many copies are made; they have no slots.

    `dataclasses.replace` takes twenty times as long.
    """

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Self:
        """Make it of all its attributes, by their names; they are not checked."""
        made = object.__new__(cls)
        made.__dict__ = facts
        return made

    def but(self, **values: Any) -> Self:
        """Copy it with other values, by the names of its attributes; they are not checked."""
        copy = object.__new__(type(self))
        copy.__dict__ = vars(self) | values
        return copy
