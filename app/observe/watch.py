"""What the parts of the service report of their work; `app.observe.metrics` counts it.

No argument may name an entity, and no method may be slow: they are called for every change.
"""

from collections.abc import Iterable, Sequence


class Watch:
    """Ignores every report. A subclass overrides the methods for what it counts."""

    def accepted(self, seconds: float, *, duplicate: bool) -> None:
        """A change was answered 202.

        Args:
            seconds: The time since its body was complete.
            duplicate: Whether it had been stored before.
        """

    def answered(self, status: int) -> None:
        """A request for a change was answered with another status than 202."""

    def signature_failed(self, cause: str) -> None:
        """A request was not proven to come from Port; `cause` is one of `errors.Cause`."""

    def decided(self, rule: str, outcome: str) -> None:
        """A rule was concerned by a new change, or none was: ``""`` and ``unmatched``.

        Args:
            rule: The rule's name.
            outcome: ``resolves``, else ``matches``, else ``lapses``.
        """

    def program_failed(self, rule: str) -> None:
        """A jq program of a rule failed on a change."""

    def delivered(self, destination: str, outcome: str, deliveries: int) -> None:
        """Deliveries were tried or set aside; `outcome` is one of `model.delivery.Outcome`."""

    def sent(self, destination: str, waits: Sequence[float]) -> None:
        """A message has arrived; `waits` has the seconds that each delivery in it had waited."""

    def changed(self, destination: str) -> None:
        """A message that was sent before was changed."""

    def retried(self, destination: str) -> None:
        """A queue has to try again."""

    def committed(self, seconds: float, jobs: int, *, well: bool) -> None:
        """The store's writer ended a transaction of `jobs` jobs. Called from the writer's thread."""

    def dispatcher_ended(self) -> None:
        """The process that delivers has ended, and is started again."""

    def compared(self, reason: str, seconds: float, differences: int, missed: int, *, well: bool) -> None:
        """A reconcile run has ended.

        Args:
            reason: Why it was made: one of `Run.reason`.
            seconds: How long it took.
            differences: How many entities differ from their last known state.
            missed: For how many of these Port should have called the listener.
            well: Whether it succeeded.
        """

    def came_after(self) -> None:
        """A change arrived that reconciling had found before."""

    def rules_taken(self, rules: Iterable[str], destinations: Iterable[str]) -> None:
        """Rules are in force; given are their names, and those of the destinations."""

    def rules_refused(self) -> None:
        """A rules file was refused; the rules before it stay in force."""

    def clicked(self, action: str, outcome: str) -> None:
        """Somebody clicked a button in Slack.

        Args:
            action: One of `notifier.slack.buttons.ACTIONS`.
            outcome: ``done``, ``nothing`` (it was so already, or is over), ``refused`` or ``failed``.
        """


NOBODY = Watch()
"""For a part whose work nobody counts."""
