"""What those must hear to whom an incident escalates, and when it is told again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from scripts.simulation.history import History
from scripts.simulation.kinds.job import Heard, Job
from scripts.simulation.world import World

SENT_WITHIN_SECONDS = 12.0
EARLY_SECONDS = 1.0
SMALL_STEP_SECONDS = 2.0
"""By less than that a set clock moves nothing."""


@dataclass(slots=True)
class Span:
    """From when to when somebody looked after an incident.

    Attributes:
        asked_at: When somebody asked for it.
        certain_at: From when on it was so for certain.
        ended_at: When somebody asked to take it back.
        ended_by: When that was done at the latest.
    """

    asked_at: float
    certain_at: float
    ended_at: float | None = None
    ended_by: float = 0.0


class Ladder:
    """Judges escalations and reminders.

    Args:
        world: The world, at its end.
        history: What was told.
        desk: Was told of each step.
        spans: Give when somebody looked after an incident.
        open_here: The incidents that are open in the end, each with whether it is acknowledged.
    """

    def __init__(
        self,
        world: World,
        history: History,
        desk: Job,
        spans: Callable[[str], list[Span]],
        open_here: Mapping[str, bool],
    ) -> None:
        self._world, self._history, self._desk = world, history, desk
        self._spans, self._open_here = spans, open_here
        self._told: dict[str, list[Heard]] = {}
        for heard in desk.once():
            self._told.setdefault(heard.incident, []).append(heard)

    def broken(self, name: str, job: Job, after_seconds: float) -> Iterator[str]:
        """Judge what one of them has heard."""
        heard_of: dict[str, list[Heard]] = {}
        for heard in job.once():
            heard_of.setdefault(heard.incident, []).append(heard)
        for incident, told in heard_of.items():
            expected = self._goes_on(job, told[0]) or self._was_tried(job, told[0], after_seconds)
            if told[0].step != "escalated" and not expected:
                yield f"{name} hears {told[0].step} of {incident}, which had not escalated"
            for heard in told:
                if heard.step == "escalated":
                    yield from self._is_due(f"{name} hears", heard, after_seconds)
            ends = [one.load for one in self._told.get(incident, ()) if one.step == "resolved"]
            ended = bool(ends) and self._serial(ends[-1]) > self._serial(told[0].load)
            if ended and self._is_clear(told[0]) and not any(one.step == "resolved" for one in told):
                yield f"{name} never hears the end of {incident}"
        for incident, acknowledged in self._open_here.items():
            told = self._told.get(incident, [])
            if told and not acknowledged and incident not in heard_of and self._is_clear(told[0]):
                yield f"{incident}, which nobody looks after, does not escalate to {name}"

    def reminders(self, after_seconds: float) -> Iterator[str]:
        """Judge when the desk was told again."""
        for told in self._told.values():
            for heard in told:
                if heard.step == "reminded":
                    yield from self._is_due("the desk is reminded", heard, after_seconds)
                    yield from self._is_up_to_date(heard)

    def _is_due(self, what: str, heard: Heard, after_seconds: float) -> Iterator[str]:
        """It is time since the incident began or was let go, and nobody looks after it."""
        if heard.has_just_woken():
            return
        # When it may have begun to count: the soonest and the latest.
        first_heard: dict[float, float] = {}
        for one in self._told.get(heard.incident, ()):
            first_heard.setdefault(one.load, one.at)
        begins = [(self._history.known_from.get(load, at), at) for load, at in first_heard.items()]
        spans = self._spans(heard.incident)
        begins += [(span.ended_at, span.ended_by) for span in spans if span.ended_at is not None]
        looked_after = [span for span in spans if span.certain_at < heard.begun_at - SENT_WITHIN_SECONDS]
        since = looked_after[-1].certain_at - SENT_WITHIN_SECONDS if looked_after else 0.0
        soonest = min((at for at, latest in begins if latest >= since), default=None)
        if soonest is None:
            yield f"{what} of {heard.incident} at {heard.at - 1000:.0f} s, though somebody looks after it"
        elif (
            heard.at < soonest + after_seconds - EARLY_SECONDS - self._small_steps(soonest, heard.at)
            and self._is_clear(heard)  # when a silence ends, what began in it is a reminder
            and not any(soonest < at <= heard.at for at in self._world.boots)
        ):
            yield f"{what} of {heard.incident} at {heard.at - 1000:.0f} s, {after_seconds:g} s are not over"

    def _is_up_to_date(self, heard: Heard) -> Iterator[str]:
        """A reminder says what was stored last, though that alerted nobody."""
        entity, sent_at = self._world.root(heard.alert["entity"]), heard.begun_at - SENT_WITHIN_SECONDS
        newer = (
            change.shown
            for change in self._world.changes.values()
            if change.entity == entity
            and change.serial > self._serial(heard.load)
            and change.stored_at is not None
            and change.stored_at < sent_at
        )
        if self._is_clear(heard) and not heard.has_just_woken() and (shown := next(newer, None)):
            yield f"the desk is reminded at {heard.at - 1000:.0f} s of {heard.load:g}, not of {shown}"

    def _goes_on(self, job: Job, heard: Heard) -> bool:
        """Tell whether it heard before that another incident of the entity goes on as this one."""
        return any(
            "another name" in before.alert["closed"]
            and before.at < heard.at
            and self._world.root(before.alert["entity"]) == self._world.root(heard.alert["entity"])
            for before in job.heard
        )

    def _was_tried(self, job: Job, heard: Heard, after_seconds: float) -> bool:
        """Tell whether it may have been on its way there: who was perhaps told is told of the end."""
        told = self._told.get(heard.incident, ())
        opened_at = min((self._history.known_from.get(one.load, one.at) for one in told), default=0.0)
        troubles = [at for process in self._world.processes for at in process.troubles]
        troubles += [at for at, host in self._world.loop.refused if host == f"{job.name.lower()}.sim"]
        due_at = opened_at + after_seconds - EARLY_SECONDS
        due_at = min([due_at, *(at for at in self._world.boots if at > opened_at)])  # its clock may be ahead
        return heard.incident in job.tried or any(due_at < at < heard.at for at in troubles)

    def _small_steps(self, since: float, until: float) -> float:
        """Sum up by how much the clock was set ahead in steps that move nothing."""
        jumps = (by for at, by in self._world.jumps if since < at <= until and 0 < by < SMALL_STEP_SECONDS)
        return sum(jumps)

    def _serial(self, load: float) -> int:
        change = self._world.changes.get(load)
        return change.serial if change else 0

    def _is_clear(self, heard: Heard) -> bool:
        return self._world.root(heard.alert["entity"]) not in self._history.unclear
