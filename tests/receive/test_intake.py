"""Taking a change in."""

from app.receive.intake import match_and_route
from app.rules.rule import Rule, RuleSet
from app.rules.rulebook import Queues, Rulebook
from tests.rules.changes import cpu

PORT = {"port": {"relation": "system", "property": "channel"}, "default": "alerts"}
TEAMS = {"by_team": {"Rocket": "rocket"}, "default": "alerts"}


async def test_each_destination_once_and_in_order() -> None:
    """However it was found."""
    facts = {"name": "cpu", "on": "UPDATE", "send": ["pay", "alerts", "pay", TEAMS, PORT]}
    queues = {name: Queues(name) for name in ("pay", "alerts", "rocket")}

    async def evaluate(*_: object) -> dict[str, object]:
        return {}

    async def look_up(*_: object) -> str:
        return "rocket"

    book = Rulebook(RuleSet([Rule.model_validate(facts)]), queues)
    matched = await match_and_route(cpu(1, 2, teams=("Rocket",)), b"{}", book, evaluate, look_up)
    assert [route.destination for hit in matched.hits for route in hit.routes] == ["pay", "alerts", "rocket"]
