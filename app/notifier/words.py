"""What alerts say, in words that every kind of destination uses: pure.

A kind gives the way in which text of the catalog is made fit for it, and adds nothing but its own form.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from app.model.change import ACTION_RUN, CREATE, DELETE, TIMER_EXPIRED
from app.model.digest import LEFT_OUT, STILL, Line, is_over, outcome, shortened
from app.model.incident import RANKS, Severity, Step
from app.model.notification import Notification, one_line, text_of
from app.notifier.base import duration
from app.notifier.failure import remedy

STATUS_MARKS = {"Healthy": "🟢", "Degraded": "🟠", "Crashed": "🔴", "Restarting": "🟡"}
"""The enum colours of Port's example blueprint."""
SEVERITY_MARKS: Final[dict[Severity, str]] = {"critical": "🔴", "warning": "🟠", "info": "🔵"}
RESOLVED_MARK = "🟢"
DELETED_MARK = "🗑️"
CLOSED_MARK = "☑️"  # over, but nobody knows whether all is well
FLAPPING_MARK = "🔁"
LATE_MARK = "🕓"
NOTICE_MARK = "\N{INFORMATION SOURCE}\N{VARIATION SELECTOR-16}"
EMPTY = "(empty)"
MAX_TITLE_CHARS = 250
MAX_SHOWN_NAME_CHARS = 80
MAX_SHOWN_REASON_CHARS = 300
MAX_TEXT_VALUE_CHARS = 100  # in one sentence; a phone shows no more
MAX_INSTEAD_CHARS = 200
ORDINALS = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")

Show = Callable[[str, int], str]
"""Makes text of the catalog fit for a place: one line, so many characters at most, its marks no markup."""


@dataclass(frozen=True)
class Words:
    """What is to be said of the alerts of one entity under one rule, or of an incident from first to last.

    Attributes:
        line: The alerts: one, several, or the first and the last of an incident.
        show: Makes text of the catalog fit for the place.
        bold: Marks the value that it has now.
    """

    line: Line
    show: Show = one_line
    bold: Callable[[str], str] = str

    @cached_property
    def last(self) -> Notification:
        """The newest alert."""
        return self.line.last

    @property
    def mark(self) -> str:
        """The mark that begins it: the value's own, else green when it is over, else the severity's."""
        return mark_of(self.last)

    @property
    def state(self) -> str:
        """How it is now, in a word or two: ``still critical``, ``flapping, critical``, ``resolved``."""
        severity = self.last.severity
        if self.line.ended:
            return outcome(self.last)
        if self.last.late:  # it says nothing of how it is now
            return "late"
        if self.last.step is Step.FLAPPING:
            return f"flapping, {severity}"
        return f"still {severity}" if self.last.step in STILL else severity

    def title(self, limit: int = MAX_TITLE_CHARS) -> str:
        """Choose the rule's own title, else the entity's, else its identifier.

        One of which nothing can be seen is none: a link of it could not be clicked.
        """
        own = "".join(part.text for part in self.last.own_title)
        titles = (self.show(title, limit) for title in (own or self.last.title, self.last.entity))
        return next(filter(_is_visible, titles), "(no name)")

    def value(self, limit: int, *, between: str = " ", marks: bool = False) -> str:
        """Write the way of its value: ``cpuUtil 70 → 91 (above 80)``; empty if it is about none.

        Args:
            limit: How many characters of each value are shown.
            between: What stands between the name and the values.
            marks: Whether each value that has a mark of its own gets it.
        """
        change, step = self.last.change, self.last.step
        if change is None:
            return ""
        *before, last = self._values()
        now = self._shown(last, limit, marks=marks, bold=True)
        ways = [self._shown(text, limit, marks=marks) for text in before]
        if step in STILL:
            way = f"still {now}"
        elif step is Step.SETTLED or self.last.action == CREATE:
            way = now
        else:
            way = " → ".join([*ways, now])
        threshold = f" ({self.last.limit})" if self.last.limit else ""
        return f"{self._name(change.name)}{between}{way}{threshold}"

    def phrase(self, limit: int = MAX_TEXT_VALUE_CHARS, *, between: str = " ", marks: bool = False) -> str:
        """Say what happened, to stand behind the title, or, where it begins with a colon, without that."""
        last = self.last
        if last.step is Step.FLAPPING:
            return f" {self._flaps(limit)}"
        if last.closed:
            return f": incident closed, {self.show(last.closed, MAX_SHOWN_REASON_CHARS)}"
        if last.action == DELETE:
            return f" was deleted{self._while(limit, marks=marks)}"
        value = self.value(limit, between=between, marks=marks)
        if last.action == CREATE and last.step not in (*STILL, Step.SETTLED):
            began = "started" if last.resource == ACTION_RUN else "was created"
            return f" {began}{value and f': {value}'}"
        if value:
            if (again := self._again(limit)) and not marks:
                return f": {again}"
            return f": {value}"
        return self._without_value(limit)

    def course(self) -> list[str]:
        """Describe the course of the incident, in a few words each: ``got worse``, ``open for 12 min`` …"""
        last, words = self.last, []
        span = duration(last.at - last.opened_at) if last.opened_at else ""
        late = sum(alert.late for alert in self.line.notifications)
        of_them = f", {late} of them came late" if late and not last.late else ""
        # Up and down once, or once there: the values say it. Of one that is new or gone they are not shown.
        obvious = 2 if self.line.ended and last.action not in (CREATE, DELETE) and not of_them else 1
        counted = self.line.complete and self.line.changes > obvious
        if counted:
            took = duration(last.at - self.line.notifications[0].at)
            words.append(f"{self.line.changes:,} changes in {took}{of_them}")
        words += ["got worse"] if last.worse else ["got better"] if last.better else []
        if last.step is Step.SETTLED and last.action != DELETE:
            stable = f"stable for {duration(last.window)}" if last.window else "stable again"
            words += [stable, "resolved" if last.ended else "still open"]
        elif last.closed:
            words += [f"it was open for {span}"] if span else []
        elif self.line.ended and last.action == DELETE:
            words += [f"its incident ended after {span}"] if span else []
        elif self.line.ended:
            words.append(f"resolved after {span}" if span else "resolved")
        # It would be wrong by the time an updated message is read.
        elif span and self.line.complete and last.step in (Step.CHANGED, *STILL) and last.change:
            words.append(f"open for {span}")
        if last.step is Step.ESCALATED and last.window:
            words.append(f"nobody has acknowledged it for {duration(last.window)}")
        if last.times > 1 and last.last_at:
            words.append(f"{_ordinal(last.times)} time today, last {duration(last.at - last.last_at)} ago")
        words += self._others()
        if late and not (counted and of_them):
            words.append("late: a newer change was seen before it")
        return words

    def _others(self) -> list[str]:
        """Say what it has to do with incidents of other entities."""
        below = (self.last.below or "").removeprefix(f"{self.last.state} now: ")  # a group's state says so
        words = [self.show(below, MAX_SHOWN_REASON_CHARS)] if below else []
        if self.last.affected and not self.line.ended:
            words.append(self.show(self.last.affected, 3 * MAX_SHOWN_REASON_CHARS))
        quiet = [alert.was_quiet for alert in self.line.notifications if alert.was_quiet]
        if quiet and self.line.complete:
            words.append(f"was quiet until now: {self.show(quiet[-1], MAX_SHOWN_REASON_CHARS)}")
        return words

    def acknowledged(self) -> str:
        """Say who looks after it, or that nobody does any more; empty: there is nothing to say of that."""
        if (by := self.last.acknowledged) and not self.line.ended:
            return f"acknowledged by {self.show(by.by.name, MAX_SHOWN_NAME_CHARS)}"
        before = self.show(self.last.unacknowledged, MAX_SHOWN_NAME_CHARS)
        return f"no longer acknowledged, as it was by {before} before it got worse" if before else ""

    def facts(self) -> str:
        """Name the severity and the rule: ``critical, rule health``."""
        worst = max((alert.severity for alert in self.line.notifications), key=RANKS.__getitem__)
        how_bad = f"was {worst}" if self.last.ended or self.line.ended else self.last.severity
        if self.last.step is Step.FLAPPING:  # not over, however it is at the moment
            how_bad = self.last.severity
        elif self.last.step is Step.NOTICED and self.last.ended:  # it ends what never began
            how_bad = ""
        rule = f"rule {self.show(self.last.rule, MAX_SHOWN_NAME_CHARS)}"
        return ", ".join(filter(None, (how_bad, rule)))

    def instead(self, limit: int = MAX_INSTEAD_CHARS) -> str:
        """Say for whom a fallback gets it, why, and what to do about that; empty if it is no fallback."""
        reasons = [alert.instead for alert in self.line.notifications if alert.instead]
        if not reasons:
            return ""
        advice = remedy(reasons[-1])
        return self.show(reasons[-1], limit) + (f"; {advice}" if advice else "")

    def sentence(self) -> str:
        """Say what, how bad, and whether it is over, for a phone or a screen reader."""
        if self.line.is_notice:
            return self.show(self.last.title, 3 * MAX_SHOWN_REASON_CHARS)
        course, instead = self.course(), self.instead()
        if self._again(MAX_TEXT_VALUE_CHARS):
            course = [words if not words.startswith("resolved") else "resolved" for words in course]
        parts = [self.title() + self.phrase(), *course, *filter(None, (self.acknowledged(),))]
        return f"{', '.join(parts)} ({self.facts()})" + (f", {instead}" if instead else "")

    def brief(self, limit: int) -> str:
        """Name it in a list of many: ``Payments Crashed``, ``Billing resolved``, ``orders-db 91``."""
        change = None if self.line.ended else self.last.change
        now = self._shown(text_of(change.after), limit) if change else self.state
        if self.last.step is Step.FLAPPING:
            now = "flapping"
        return self.title(limit) if self.line.is_notice else f"{self.title(limit)} {now}"

    def _values(self) -> tuple[str, ...]:
        """List the values that the property went through, the last one being that it has now."""
        change, (first, *_) = self.last.change, self.line.notifications
        assert change is not None  # noqa: S101 - tells mypy what the caller has seen
        values = next(chain.values for chain in self.line.chains if chain.name == change.name)
        begin = first.change
        if self.line.complete or begin is None or begin.name != change.name:
            return shortened(values)
        between = text_of(begin.after) != text_of(change.before) and self.last.step not in STILL
        known = (text_of(begin.before), text_of(begin.after))
        return (*known, LEFT_OUT, text_of(change.after)) if between else values

    def _again(self, limit: int) -> str:
        """Say that it is as it was, and for how long it was not; empty unless it was one thing meanwhile."""
        if self.last.change is None or not self.line.ended or not self.last.opened_at:
            return ""
        values = self._values()
        if self.last.step is not Step.RESOLVED or len(values) != 3 or values[0] != values[2]:
            return ""
        span = duration(self.last.at - self.last.opened_at)
        return f"{self._shown(values[2], limit)} again, {self._shown(values[1], limit)} for {span}"

    def _without_value(self, limit: int) -> str:
        if self.last.step in STILL:
            opened_at = self.last.opened_at
            return f": still open after {duration(self.last.at - opened_at)}" if opened_at else ": still open"
        if self.last.action == TIMER_EXPIRED:
            return (
                f": the timer of {self.show(self.last.timer or 'a property', MAX_SHOWN_NAME_CHARS)} ran out"
            )
        return f": {self.show(self.last.state, limit)}" if self.last.state else " changed"

    def _flaps(self, limit: int) -> str:
        window = f" in {duration(self.last.window)}" if self.last.window else ""
        text = f"flaps ({self.last.moves} changes{window})"
        if self.last.action == DELETE:
            text += ", now deleted"
        elif self.last.change is not None:
            text += f", now {self._shown(text_of(self.last.change.after), limit, marks=True)}"
        return f"{text}; quiet until stable"

    def _while(self, limit: int, *, marks: bool) -> str:
        change = self.last.change
        if change is None or change.before is None:
            return ""
        before = self._shown(text_of(change.before), limit, marks=marks)
        is_word = isinstance(change.before, str)
        return f" while {before if is_word else f'{self._name(change.name)} was {before}'}"

    def _name(self, name: str) -> str:
        return self.show(name.removeprefix("relations.").removeprefix("scorecards."), MAX_SHOWN_NAME_CHARS)

    def _shown(self, value: str, limit: int, *, marks: bool = False, bold: bool = False) -> str:
        text = value if value == LEFT_OUT else self.show(value, limit) or EMPTY
        text = self.bold(text) if bold else text
        return f"{STATUS_MARKS[value]} {text}" if marks and value in STATUS_MARKS else text


def words_of(notification: Notification, show: Show = one_line) -> Words:
    """Make the words of one alert."""
    return Words(Line((0,), (notification,)), show)


def mark_of(notification: Notification) -> str:
    """Choose the mark of an alert: the value's own, else green when it is over, else the severity's."""
    step, over, change = notification.step, is_over(notification), notification.change
    if step in (Step.NOTICE, Step.FLAPPING):
        return NOTICE_MARK if step is Step.NOTICE else FLAPPING_MARK
    if notification.late:  # it says nothing of how it is now
        return LATE_MARK
    if over and (notification.closed or notification.action == DELETE):
        return CLOSED_MARK if notification.closed else DELETED_MARK
    own = STATUS_MARKS.get(change.after) if change and isinstance(change.after, str) else None
    return own or (RESOLVED_MARK if over else SEVERITY_MARKS[notification.severity])


def _ordinal(number: int) -> str:
    if number < len(ORDINALS):
        return ORDINALS[number]
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{suffix}"


def _is_visible(text: str) -> bool:
    return any(unicodedata.category(char) not in {"Cf", "Zs"} for char in text)
