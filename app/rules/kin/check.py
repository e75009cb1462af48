"""What is wrong with how the rules of a file depend on one another."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.errors import Mistake
from app.rules.mistakes import nearest
from app.rules.rule import Rule
from app.rules.values import GLOB
from app.rules.yaml_text import Document


def wrong_ties(rules: Sequence[Rule | None], written: Sequence[Any], document: Document) -> Iterator[Mistake]:
    """Yield what is wrong with how rules depend on one another.

    Args:
        rules: The rules; None stands for one that cannot be read.
        written: The same as they are written.
        document: The file.
    """
    names = [rule.get("name") for rule in written if isinstance(rule, Mapping)]
    by_name = {rule.name: rule for rule in rules if rule}
    for number, rule in enumerate(rules):
        if rule is None or rule.quiet_while is None:
            continue
        above, place = by_name.get(rule.quiet_while.rule), ("rules", number, "quiet_while", "rule")
        if not rule.has_incident:
            text = "`quiet_while` needs to see when the incident ends: give the rule a `resolve`"
            yield document.mistake(place[:3], text)
        if above is None and rule.quiet_while.rule in names:
            continue  # what is wrong with that one is said there
        if above is None:
            near = nearest(rule.quiet_while.rule, by_name)
            hint = f"; did you mean {near!r}?" if near else f"; there are {', '.join(sorted(by_name))}"
            yield document.mistake(place, f"there is no rule {rule.quiet_while.rule!r}{hint}")
        elif not above.has_incident:
            yield document.mistake(place, f"rule {above.name!r} has no incidents: give it a `resolve`")
        elif any(not GLOB.isdisjoint(name) for name in above.blueprint):
            text = (
                f"rule {above.name!r} must name its blueprints in full: a relation gives only an identifier"
            )
            yield document.mistake(place, text)
        elif circle := _circle(rule, by_name):
            yield document.mistake(place, f"rules must not wait for each other: {' → '.join(circle)}")


def _circle(rule: Rule, by_name: Mapping[str, Rule]) -> list[str]:
    """Follow a rule to those that explain it; empty if that does not lead back to it over another one.

    A rule may name itself: services of one blueprint depend on each other.
    """
    names, following = [rule.name], rule.quiet_while
    while following is not None and following.rule not in names and following.rule in by_name:
        names.append(following.rule)
        following = by_name[following.rule].quiet_while
    leads_back = following is not None and following.rule == rule.name and len(names) > 1
    return [*names, rule.name] if leads_back else []
