"""A suite file: YAML with the tests of a rules file, checked as a whole, each mistake with its line."""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import filter as fitting
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.errors import Mistake, RulesError, SettingsError, SuiteError, UnreadableChange
from app.model.change import CREATE, DELETE, CatalogChange
from app.model.incident import CATALOG_QUEUES
from app.notifier.registry import SETTINGS_MODELS
from app.receive.payload import happening_at, parse_event
from app.receive.rules_source import read_rules
from app.receive.signature import Signed
from app.rules.file import Rules
from app.rules.mistakes import explain, in_order, nearest
from app.rules.targets import DEFAULT_DESTINATION
from app.rules.values import Strict
from app.rules.yaml_text import Document, read_yaml
from app.suite.clock import TEST_START
from app.suite.model import EVERYBODY, ExpectedAlert, GivenEntity, Moment, SilenceSpan, SuiteFile, SuiteTest

HOLDS = "a suite is a mapping with version, rules and tests"
MIN_SECRET_BYTES = 24


class MadeUp(Mapping[str, str]):
    """What `${NAME}` in the rules file stands for: what the suite says, else a value that is made up.

    Not the variables of this process: a suite holds everywhere, and needs no secret.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        if name in self._values:
            return self._values[name]
        if name.endswith("SECRET"):  # as destinations of the type http demand it
            return "whsec_" + b64encode(name.encode().ljust(MIN_SECRET_BYTES, b"-")).decode()
        if name.endswith("KEY"):  # as PagerDuty's are
            return sha256(name.encode()).hexdigest()[:32]
        return f"https://hooks.slack.com/services/suite/{name}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite without mistakes.

    Attributes:
        name: The file's name, as it was given.
        file: Its content.
        rules: The rules that it tests.
        bodies: The bodies of Port that its steps send, by the numbers of test and step.
        lines: The line of each test, ``(0,)``, and of each of its steps, ``(0, 2)``.
    """

    name: str
    file: SuiteFile
    rules: Rules
    bodies: Mapping[tuple[int, int], bytes] = field(default_factory=dict)
    lines: Mapping[tuple[int, ...], int] = field(default_factory=dict)


def load_suite(path: Path) -> Suite:
    """Read a suite, and the rules file that it names.

    Raises:
        SuiteError: Something is wrong with it, or with the rules file; every mistake is named with its line.
    """
    name = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SuiteError(f"the suite {path} cannot be read: {reason}") from None
    try:
        document = read_yaml(text, {}, name=name, holds=HOLDS)
        return _load(path, name, document)
    except RulesError as error:
        raise SuiteError(str(error)) from None


def _load(path: Path, name: str, document: Document) -> Suite:
    if isinstance(document.tree.get("rules"), list):
        text = "this is a rules file; a suite names it, as in rules: rules.yaml, and has tests"
        raise RulesError(name, [document.mistake(("rules",), text)])
    mistakes = list(document.mistakes)
    try:
        file = SuiteFile.model_validate(document.plain)
    except ValidationError as error:
        mistakes += explain(error, document, _keys_at)
        raise RulesError(name, in_order(mistakes, document)) from None
    rules = None
    try:
        rules = read_rules(path.parent / file.rules, MadeUp(file.environment), SETTINGS_MODELS)
    except SettingsError as error:
        mistakes.append(document.mistake(("rules",), f"rules: {error}"))
    bodies: dict[tuple[int, int], bytes] = {}
    names: dict[str, int] = {}
    for number, test in enumerate(file.tests):
        if names.setdefault(test.name, number) != number:
            mistakes.append(
                document.mistake(("tests", number, "name"), "name: an earlier test has this name")
            )
        mistakes += _Reader(path.parent, document, rules, bodies, number, {**file.entities}).read(test)
    if rules is None or mistakes:
        raise RulesError(name, in_order(mistakes, document))
    lines: dict[tuple[int, ...], int] = {}
    for number, test in enumerate(file.tests):
        lines[number,] = document.mistake(("tests", number), "").line
        for step in range(len(test.timeline)):
            lines[number, step] = document.mistake(("tests", number, "timeline", step), "").line
    return Suite(name, file, rules, bodies, lines)


def _keys_at(path: Sequence[Any]) -> list[str]:
    """List the keys beside the last one of a path, as pydantic writes it."""
    model: type[Strict] = SuiteFile
    match tuple(path):
        case ("entities", _, _) | ("tests", _, "entities", _, _):
            model = GivenEntity
        case ("tests", _, "timeline", _, "silence", *_, _):
            model = SilenceSpan
        case ("tests", _, "timeline", _, "told", *_, _):
            model = ExpectedAlert
        case ("tests", _, "timeline", _, _):
            model = Moment
        case ("tests", _, _):
            model = SuiteTest
    return [info.alias or name for name, info in model.model_fields.items()]


@dataclass(slots=True)
class _Reader:
    """Reads the bodies of a test, and looks for what is wrong in view of the rules and of earlier steps."""

    folder: Path
    document: Document
    rules: Rules | None
    bodies: dict[tuple[int, int], bytes]
    number: int
    known: dict[str, GivenEntity]
    blueprints: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def read(self, test: SuiteTest) -> Iterator[Mistake]:
        self.blueprints = {name: entity.blueprint for name, entity in (self.known | test.entities).items()}
        before, begun = None, set[str]()
        for step, moment in enumerate(test.timeline):
            place = ("tests", self.number, "timeline", step)
            if moment.at is not None and before is not None and moment.at < before:
                yield self.document.mistake((*place, "at"), "at: is before that of the step above it")
            before = moment.at if moment.at is not None else before
            yield from self._change(moment, step, place)
            yield from self._ends(moment, place, begun)
            if self.rules is not None:
                yield from self._names(moment, place, self.rules)

    def _change(self, moment: Moment, step: int, place: tuple[Any, ...]) -> Iterator[Mistake]:
        if moment.body is not None:
            try:
                change = self._body(moment.body, step)
            except SuiteError as error:
                yield self.document.mistake((*place, "body"), f"body: {error}")
            else:
                self.blueprints[change.entity] = change.blueprint
                self._note(change.former, change.entity, deleted=change.action == DELETE)
        elif moment.entity is not None:
            if moment.blueprint is not None:
                self.blueprints[moment.entity] = moment.blueprint
            elif moment.entity not in self.blueprints:
                near = nearest(moment.entity, self.blueprints)
                hint = f"; did you mean {near!r}?" if near else ""
                text = f"entity: no entity {moment.entity!r} is known here: give its blueprint{hint}"
                yield self.document.mistake((*place, "entity"), text)
            elif moment.entity in self.gone and moment.action != CREATE and moment.happened is None:
                text = (
                    f"entity: {moment.entity!r} was deleted or renamed above; action: CREATE makes it again"
                )
                yield self.document.mistake((*place, "entity"), text)
            if moment.rename is not None:
                self.blueprints[moment.rename] = self.blueprints.get(moment.entity, "")
            former = moment.entity if moment.rename is not None else None
            self._note(former, moment.rename or moment.entity, deleted=moment.action == DELETE)

    def _note(self, former: str | None, entity: str, *, deleted: bool) -> None:
        """Note which entities are gone after a change."""
        self.gone -= {entity}
        self.gone |= {name for name in (former, entity if deleted else None) if name is not None}

    def _ends(self, moment: Moment, place: tuple[Any, ...], begun: set[str]) -> Iterator[Mistake]:
        """Yield what a step ends and no earlier one began, which is kept in `begun`."""
        for name in moment.works or ():
            if name not in begun:
                text = f"works: no step above lets {name!r} fail"
                yield self.document.mistake(_there(self.document, (*place, "works"), name), text)
        if moment.silence == "end" and "" not in begun:
            yield self.document.mistake((*place, "silence"), "silence: no step above begins one")
        begun |= {*(moment.fails or ()), *([""] if moment.silence is not None else ())}
        for key in ("acknowledge", "unacknowledge"):
            name = getattr(moment, key)
            # A group has a name, too.
            groups = self.rules is not None and any(rule.of for rule in self.rules.file.rules)
            if name is not None and name not in self.blueprints and not groups:
                near = nearest(name, self.blueprints)
                hint = f"; did you mean {near!r}?" if near else ""
                text = f"{key}: no entity {name!r} is known here{hint}"
                yield self.document.mistake((*place, key), text)

    def _body(self, written: str | dict[str, Any], step: int) -> CatalogChange:
        """Read a body, which stands in a file or in the suite itself."""
        if isinstance(written, str):
            try:
                body = (self.folder / written).read_bytes()
            except OSError as error:
                raise SuiteError(f"{written} cannot be read: {error.strerror}") from None
        else:
            body = json.dumps(written).encode()
        try:
            change = parse_event(Signed(happening_at(body, TEST_START), TEST_START))
        except UnreadableChange as error:
            raise SuiteError(f"not a change of Port's: {error}") from None
        self.bodies[self.number, step] = body
        return change

    def _names(self, moment: Moment, place: tuple[Any, ...], rules: Rules) -> Iterator[Mistake]:
        """Yield the destinations and rules that a step names and the rules file does not have."""
        destinations = {*rules.file.destinations, DEFAULT_DESTINATION}
        by_catalog = any(settings.routing().catalog for settings in rules.file.destinations.values())
        for key, names in moment.destinations():
            for name in names:
                if by_catalog and name.startswith(CATALOG_QUEUES):
                    continue  # which there are, the tests' entities say
                if not (fitting(destinations, name) if key == "not told" else name in destinations):
                    there = _there(self.document, (*place, key), name)
                    yield self.document.mistake(
                        there, f"{key}: {_no('destination', name, destinations, rules)}"
                    )
        by_name = {rule.name for rule in rules.file.rules}
        pattern = moment.silence.rule if isinstance(moment.silence, SilenceSpan) else "*"
        if pattern != "*" and not fitting(by_name, pattern):
            yield self.document.mistake(
                (*place, "silence", "rule"), f"silence: {_no('rule', pattern, by_name, rules)}"
            )
        for destination, alerts in (moment.told or {}).items():
            for position, alert in enumerate(alerts or ()):
                if alert.rule is not None and alert.rule not in by_name:
                    there = (*place, "told", destination, position, "rule")
                    yield self.document.mistake(there, f"told: {_no('rule', alert.rule, by_name, rules)}")


def _there(document: Document, path: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    written = document.at(path)
    return (*path, written.index(name) if isinstance(written, list) and name in written else name)


def _no(kind: str, name: str, known: set[str], rules: Rules) -> str:
    near = nearest(name, known)
    hint = f"did you mean {near!r}?" if near else f"there are {', '.join(sorted(known))}"
    if name == EVERYBODY:
        hint = "write '*' in `not told` for all of them"
    return f"{rules.name} has no {kind} {name!r}; {hint}"
