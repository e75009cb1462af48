"""What a run in Port is told of its change, in words."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.model.delivery import Alert
from app.model.report import MAX_SUMMARY_CHARS, RUNS, Fate, Report, ReportedAlert
from app.model.silence import Silence
from tests.rules.changes import moved

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
REASON = "rule 'health' matches"
ROCKET = ReportedAlert("rocket", "delivered", "ok")
PAGER = ReportedAlert("pager", "pending")

ENDS = {
    "ignored": (
        Fate(AT, "no rule is about blueprint 'x'"),
        ("SUCCESS", "Ignored", "Ignored: no rule is about blueprint 'x'."),
    ),
    "delivered": (
        Fate(AT, REASON, (ROCKET, replace(ROCKET, destination="default"))),
        ("SUCCESS", "Delivered", f"Delivered to rocket and default. Why: {REASON}."),
    ),
    "dead": (
        Fate(AT, REASON, (ROCKET, ReportedAlert("jobs", "dead", "404: not found"))),
        (
            "FAILURE",
            "Not delivered",
            f"Not delivered to jobs: 404: not found. Delivered to rocket. Why: {REASON}.",
        ),
    ),
    "silenced": (
        Fate(AT, REASON, (ReportedAlert("rocket", "silenced", "silence 3, by ada"),)),
        ("SUCCESS", "Silenced", f"rocket is silenced: silence 3, by ada. Why: {REASON}."),
    ),
    "cancelled": (
        Fate(AT, REASON, (ReportedAlert("rocket", "cancelled"),)),
        ("SUCCESS", "Not needed", f"No longer needed for rocket. Why: {REASON}."),
    ),
    "again": (
        Fate(AT, REASON, (ROCKET,), again=True),
        (
            "SUCCESS",
            "Duplicate",
            f"This change came before; nothing is sent twice. Delivered to rocket. Why: {REASON}.",
        ),
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_a_run_ends(name: str) -> None:
    """A run fails where somebody was not told; each end says what became of the change, and why."""
    fate, (status, label, summary) = ENDS[name]
    assert fate.has_ended
    assert fate.ending([]) == {"status": status, "statusLabel": label, "summary": summary}


def test_a_line_until_it_ends() -> None:
    """While something waits there is no end, and the line says for whom."""
    fate = Fate(AT, REASON, (ROCKET, PAGER))
    assert not fate.has_ended
    assert fate.line == f"Accepted: 2 alerts, for rocket and pager: {REASON}."
    assert Fate(AT, REASON, (PAGER,)).line == f"Accepted: 1 alert, for pager: {REASON}."


def test_each_link_once() -> None:
    """Two destinations of one channel have one message."""
    ending = Fate(AT, REASON, (ROCKET,)).ending(["https://x/1", "https://x/2", "https://x/1"])
    assert ending["link"] == ["https://x/1", "https://x/2"]


def test_what_failed_is_never_cut_off() -> None:
    """However long the reason, the summary begins with what went wrong."""
    fate = Fate(AT, "because " * 1_000, (ReportedAlert("jobs", "dead", "404"),))
    assert fate.summary.startswith("Not delivered to jobs: 404. Why: because")
    assert len(fate.summary) == MAX_SUMMARY_CHARS
    many = Fate(AT, REASON, tuple(ReportedAlert(f"d{number}", "delivered") for number in range(500)))
    assert "d19 and 480 more" in many.summary


def test_a_report_is_no_alert() -> None:
    """It names its run and its entity, and no silence keeps it back."""
    told = replace(moved(None, {}), report_to="r_1")
    report = Report.of(told, "queue")
    assert report is not None
    said = report.delivery.notification
    assert report == Report("r_1", Alert(RUNS, "queue", said))
    assert (said.title, said.entity) == ("Report to run r_1", told.entity)
    assert not Silence("*", "*", "*", "*", AT, AT, "ada", "").covers(said)


@pytest.mark.parametrize("run", [None, "", "r 1", "r\0", "../x", "r" * 201])
def test_no_run_no_report(run: str | None) -> None:
    """What is no run's id is not asked for in Port."""
    assert Report.of(replace(moved(None, {}), report_to=run), "queue") is None
