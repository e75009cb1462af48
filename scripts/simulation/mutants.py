"""Mistakes that are planted to see whether the oracle finds them: statements changed, objects wrapped."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from app.deliver.turn import Sender
from app.model.delivery import Outcome
from app.notifier.base import Notifier
from app.rules.decide import Decision
from app.store.rows import Attempt, Claim, Incoming
from app.store.transaction import Database


def _same(thing: Any) -> Any:
    return thing


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake.

    Attributes:
        rewrite: Changes a statement.
        database: Wraps the database.
        sender: Wraps the sender.
        notifier: Wraps a notifier.
    """

    rewrite: Callable[[str], str] = _same
    database: Callable[[Database], Database] = _same
    sender: Callable[[Sender], Sender] = _same
    notifier: Callable[[Notifier], Notifier] = _same


HEALTHY = Mutant()
