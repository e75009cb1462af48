"""All errors that this project raises.

::

    ListenerError
    ├── SettingsError        the configuration cannot be used; the start is refused
    ├── SourceRefused        a request comes from an address that may send nothing (403)
    ├── SignatureRejected    a request is not proven to come from Port (401)
    ├── TooBusy              who has proven nothing asks too much now (503)
    ├── UnreadableChange     it is from Port, but not a change we can read (422, kept in quarantine)
    ├── StoreUnavailable     the store cannot take or give data now (503)
    │   ├── StoreRefuses     the store takes other data, but not this: a fault in this program
    │   ├── NoDatabase       there is no store yet
    │   └── SchemaTooNew     the store was written by a newer release; the start is refused
    ├── JqUnavailable        users' programs cannot be run now; the change is kept in quarantine (500)
    ├── RulesError           a rules file cannot be used; names every mistake
    ├── SuiteError           a suite cannot be run: it, or the rules file that it names, has mistakes
    ├── TemplateError        a text is not a template
    ├── DeliveryFailed       a destination did not take an alert; carries what follows from it
    │   └── MessageGone      the message that was to be changed is gone
    └── PortError            a call of Port's API failed; carries what to do about it
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

CERTIFICATE_ADVICE = (
    "if a proxy or an authority of your own has signed it, SSL_CERT_FILE must name a file that has its"
    " certificate"
)


class ListenerError(Exception):
    """The root of the tree. Its text is a sentence for people, without secrets."""


class SettingsError(ListenerError):
    """The configuration cannot be used. The text names each variable and what to set it to."""


class SourceRefused(ListenerError):
    """A request comes from an address that ALLOWED_SOURCES does not name. The text is for the log."""


class Cause(StrEnum):
    """Why a signature is rejected."""

    MISSING = "missing"
    MALFORMED = "malformed"
    STALE = "stale"
    WRONG = "wrong"


class SignatureRejected(ListenerError):
    """A request is not proven to come from Port. The text is for the log, never for the answer."""

    def __init__(self, reason: str, cause: Cause) -> None:
        super().__init__(reason)
        self.cause = cause


class TooBusy(ListenerError):
    """What nobody has signed yet takes too much memory or time now. The text is for the log."""


class UnreadableChange(ListenerError):
    """A signed body that this release cannot read as a change.

    Args:
        reason: What is wrong, for people.
        path: The field at fault, dotted (``diff.after.properties``), or ``""`` for the whole body.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.reason = reason
        self.path = path


class StoreUnavailable(ListenerError):
    """The store cannot be read or written now: its disk is full, it is locked, closed or unreachable."""


class StoreRefuses(StoreUnavailable):
    """The store is there, but refuses what is to be written, and would again: a fault in this program."""


class NoDatabase(StoreUnavailable):
    """There is no store yet: the listener makes it when it first starts."""


class SchemaTooNew(StoreUnavailable):
    """The store was written by a newer release than this one."""


class JqUnavailable(ListenerError):
    """Users' jq programs cannot be run, through no fault of theirs: their process cannot start, say."""


class Scope(StrEnum):
    """Which deliveries a failure concerns."""

    MESSAGE = "message"
    """Only this message is refused: its deliveries are dead, the queue goes on."""
    DESTINATION = "destination"
    """The destination is broken until someone fixes it: its queues are on hold."""
    TRANSIENT = "transient"
    """It may work later: the queue waits."""
    PLACE = "place"
    """What the catalog names is no place that can be told: the default of the destination is."""
    STRANGE = "strange"
    """Something else answered at the destination's fixed address, a proxy's page say, or in words that nobody
    knows. It may pass, so the queue waits; the second answer of this kind in a row puts it on hold."""
    REFUSED = "refused"
    """The caller may not call the address that the change made: this one, or none any more. Only this message
    is refused, unless it is so for several entities in a row."""


class DeliveryFailed(ListenerError):
    """A destination did not take an alert.

    Args:
        reason: What the destination answered, for people, without secrets.
        scope: Which deliveries it concerns.
        retry_after: How long the destination asked to wait; None: it did not.
        unsure: Whether the alert may have arrived anyway.
        known_again: Whether who gets it twice knows it by its key, and does nothing anew.
    """

    def __init__(
        self,
        reason: str,
        scope: Scope,
        retry_after: timedelta | None = None,
        *,
        unsure: bool = False,
        known_again: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.scope = scope
        self.retry_after = retry_after
        self.unsure = unsure
        self.known_again = known_again


class MessageGone(DeliveryFailed):
    """The message that was to be changed, or answered in its thread, is gone."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, Scope.MESSAGE)


class PortError(ListenerError):
    """A call of Port's API failed.

    Args:
        call: The method and the route, ``GET /v1/blueprints/deploymentConfig``.
        said: What Port answered or why it could not be asked, for people, without secrets.
        advice: What to do about it.
        status: The HTTP status; None if there was no answer.
        trace_id: Port's own name for the request, to give to its support; may be empty.
        retry_after: How long Port asks us to wait; None: it does not.
        lasting: There was no answer, and will be none until somebody fixes it: the certificate is not valid.
        unsure: There was no answer, and what it asks for may have been done all the same.
    """

    def __init__(
        self,
        call: str,
        said: str,
        advice: str,
        *,
        status: int | None = None,
        trace_id: str = "",
        retry_after: timedelta | None = None,
        lasting: bool = False,
        unsure: bool = False,
    ) -> None:
        answered = f"{call}: {status} {said}" if status else f"{call}: {said}"
        trace = f" (trace id {trace_id})" if trace_id else ""
        super().__init__(f"{answered}{trace}. {advice}")
        self.call = call
        self.said = said
        self.advice = advice
        self.status = status
        self.trace_id = trace_id
        self.retry_after = retry_after
        self.lasting = lasting
        self.unsure = unsure

    @property
    def logging_in(self) -> bool:
        """Whether the failed call was the one for a token."""
        return "/auth/" in self.call


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake at one place of a rules file.

    Attributes:
        line: The line, from 1.
        rule: The rule's name, or its number; empty outside rules.
        text: What is wrong, and what would be right.
    """

    line: int
    rule: str
    text: str

    def at(self, name: str, kind: str = "") -> str:
        """Write it with its place in the file called `name`; `kind`: what it is, if it is no mistake."""
        return f"{name}:{self.line}: {kind}{f'rule {self.rule!r}: ' if self.rule else ''}{self.text}"


class RulesError(ListenerError):
    """A rules file cannot be used; the text has all its mistakes, in the order of their lines.

    Args:
        name: The file's name.
        mistakes: What is wrong with it.
        readable: The destinations that can be read (`app.rules.file.Rules`): more may be wrong with them.
        settings: What is wrong with the settings, which is said first.
    """

    def __init__(
        self, name: str, mistakes: Iterable[Mistake], readable: Any = None, settings: Iterable[str] = ()
    ) -> None:
        self.mistakes = tuple(sorted(dict.fromkeys(mistakes), key=lambda mistake: mistake.line))
        self.settings = tuple(dict.fromkeys(settings))
        super().__init__("\n".join([*self.settings, *(mistake.at(name) for mistake in self.mistakes)]))
        self.name, self.readable = name, readable


class SuiteError(ListenerError):
    """A suite cannot be run; the text has all mistakes, each with file and line."""


class TemplateError(ListenerError):
    """A text that is no template; `position`: where, in characters from the text's start, from 0."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} at character {position + 1}")
        self.reason = reason
        self.position = position
