"""What is wrong with how the rules of a file depend on one another."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.errors import Mistake
from app.model.change import ENTITY
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
        if rule is None:
            continue
        path = ("rules", number)
        as_written = written[number] if isinstance(written[number], Mapping) else {}
        yield from (document.mistake((*path, key), text) for key, text in _group_mistakes(rule, as_written))
        for key, name in (("quiet_while", rule.quiet_while and rule.quiet_while.rule), ("of", rule.of)):
            if not name:
                continue
            other, place = by_name.get(name), (*path, key, *(["rule"] if key == "quiet_while" else []))
            if other is None and name in names:
                continue  # what is wrong with that one is said there
            if text := _why_not(rule, other, name, key, by_name):
                yield document.mistake(place, text)


def _why_not(rule: Rule, other: Rule | None, name: str, key: str, by_name: Mapping[str, Rule]) -> str:
    """Say why a rule cannot depend on another one by a key; empty: it can."""
    if key == "quiet_while" and not rule.has_incident:
        return "`quiet_while` needs to see when the incident ends: give the rule a `resolve`"
    if other is None:
        near = nearest(name, by_name)
        return f"there is no rule {name!r}" + (
            f"; did you mean {near!r}?" if near else f"; there are {', '.join(sorted(by_name))}"
        )
    if not other.has_incident:
        return f"rule {name!r} has no incidents: give it a `resolve`"
    if key == "of":
        patterns = any(not GLOB.isdisjoint(blueprint) for blueprint in other.blueprint)
        if other.of is not None:
            return f"rule {name!r} is a group's itself"
        runs = other.resource != ENTITY
        if rule.share is not None and (patterns or runs):
            need = "be about entities, not runs" if runs else "name its blueprints in full"
            return f"a `share` needs reconciling, so rule {name!r} must {need}"
        return ""
    if other.of is None and any(not GLOB.isdisjoint(blueprint) for blueprint in other.blueprint):
        return f"rule {name!r} must name its blueprints in full: a relation does not say which"
    circle = _circle(rule, by_name)
    return f"rules must not wait for each other: {' → '.join(circle)}" if circle else ""


NOT_OF_GROUPS = ("on", "when", "resolve", "quiet_while")
OF_GROUPS = ("by", "at_least", "share", "until", "members")


def _group_mistakes(rule: Rule, written: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a rule as that of a group: the key, and the text."""
    if rule.of is None:
        yield from (
            (key, f"`{key}` belongs to a group's rule, one with `of`") for key in OF_GROUPS if key in written
        )
        return
    for key in NOT_OF_GROUPS:
        if key in written:
            yield key, f"`{key}` has no place in a group's rule: it counts the incidents of {rule.of!r}"
    if rule.by is None:
        yield "of", "`by` is missing: what entities of a group have in common, as in by: {relation: domain}"
    if (rule.at_least is None) == (rule.share is None):
        yield "of", "needs either `at_least` or `share`"
    elif rule.until is not None and rule.at_least is not None and rule.until >= rule.at_least:
        yield "until", "until: must be less than `at_least`"
    if not isinstance(rule.severity, str):
        yield "severity", "severity: a group has one severity: critical, warning or info"
    if rule.blueprint != ("*",) and (len(rule.blueprint) > 1 or not GLOB.isdisjoint(rule.blueprint[0])):
        yield "blueprint", "blueprint: must be one identifier: the blueprint of what the group is about"


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
