"""The queues of destinations, and their fallbacks."""

from app.model.incident import Route
from app.rules.rule import RuleSet
from app.rules.rulebook import Queues, Rulebook


def test_one_queue_has_the_destinations_name() -> None:
    """Whatever the entity."""
    assert {Queues("rocket").of(entity) for entity in ("a", "b", "é")} == {"rocket"}


def test_an_entity_stays_in_its_queue() -> None:
    """In every process: its alerts are to stay in order, and the queues are all used."""
    queues = Queues("jobs", 4)
    assert [queues.of(entity) for entity in ("checkout", "search", "checkout")] == [
        "jobs/2",
        "jobs/3",
        "jobs/2",
    ]
    assert {queues.of(f"e{number}") for number in range(100)} == {f"jobs/{number}" for number in range(4)}


def test_fallbacks_are_routes() -> None:
    """Only of destinations that have one; two names of one channel lead to its one queue."""
    queues = {
        "default": Queues("default"),
        "rocket": Queues("rocket", fallback="default"),
        "jobs": Queues("jobs", 8, fallback="same-channel"),
        "same-channel": Queues("rocket"),
    }
    fallbacks = Rulebook(RuleSet(()), queues).fallbacks
    assert fallbacks == {"rocket": Route("default", "default"), "jobs": Route("same-channel", "rocket")}
