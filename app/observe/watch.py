"""What the parts of the service say of their work to whoever counts it; by itself nobody does.

`app.observe.metrics` has the one that counts. Nothing here names an entity, and nothing may be slow.
"""

from collections.abc import Iterable, Sequence


class Watch:
    """Takes note of nothing. Whoever wants to know overrides what it is about."""

    def accepted(self, seconds: float, *, duplicate: bool) -> None:
        """A change was answered 202, so long after its body was whole."""

    def answered(self, status: int) -> None:
        """A request for a change was answered with another status than 202."""

    def signature_failed(self, cause: str) -> None:
        """A request was not proven to come from Port; `cause` is one of `errors.Cause`."""

    def decided(self, rule: str, outcome: str) -> None:
        """A rule had something to say to a new change; or none had: ``""`` and ``unmatched``.

        Args:
            rule: The rule's name.
            outcome: ``resolves``, else ``matches``, else ``lapses``.
        """

    def delivered(self, destination: str, outcome: str, deliveries: int) -> None:
        """So many deliveries were tried, or set aside; `outcome` is one of `retry.Outcome`."""

    def sent(self, destination: str, waits: Sequence[float]) -> None:
        """A message has arrived; for each delivery that it told: how long that had waited, in seconds."""

    def changed(self, destination: str) -> None:
        """A message that had been sent says something new."""

    def retried(self, destination: str) -> None:
        """A queue has to try again."""

    def committed(self, seconds: float, jobs: int, *, well: bool) -> None:
        """The store's writer has ended a transaction of so many jobs. Called from its thread."""

    def compared(self, reason: str, seconds: float, differences: int, missed: int, *, well: bool) -> None:
        """A comparison with Port has ended, after so long.

        Args:
            reason: One of `Run.reason`.
            seconds: How long it took.
            differences: How many entities differ from what was known.
            missed: Of how many of these Port should have called us.
            well: It came to its end.
        """

    def came_after(self) -> None:
        """A change came of which a comparison had told before."""

    def rules_taken(self, rules: Iterable[str], destinations: Iterable[str]) -> None:
        """Rules were read and are in force; these are their names, and those of the destinations."""

    def rules_refused(self) -> None:
        """A rules file was read and is refused; the rules before it hold."""


NOBODY = Watch()
