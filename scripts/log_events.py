"""Collects the log events of the source: ids, levels and fields, read from the calls of ``log.<level>``."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LEVELS = {name: name for name in ("debug", "info", "warning", "error", "critical")} | {"exception": "error"}


@dataclass
class Event:
    """What the source says of a log event."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Place:
    """Where a call is: its module, its function or statement, and both as ``module.py:12`` for people."""

    module: ast.Module
    function: ast.AST
    text: str


def log_events(source: Path) -> dict[str, Event]:
    """Collect the calls ``log.<level>("id", field=…)`` of all modules below a folder.

    Args:
        source: The folder.

    Raises:
        ValueError: The id, or a field's name, cannot be read from the source.
    """
    events: dict[str, Event] = defaultdict(Event)
    for path in sorted(source.rglob("*.py")):
        module = ast.parse(path.read_text())
        for function in _functions(module):
            for level, call in _log_calls(function):
                place = _Place(module, function, f"{path.relative_to(source.parent)}:{call.lineno}")
                if len(call.args) != 1:
                    raise ValueError(f"{place.text}: give the event's id, and the rest as fields")
                for event_id in _ids(call.args[0], place):
                    events[event_id].levels.add(level)
                    events[event_id].fields |= _field_names(call, place)
    return dict(events)


def _functions(module: ast.Module) -> Iterator[ast.AST]:
    """Yield a module's statements and those of its classes: the calls are in the functions among them."""
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield from node.body
        else:
            yield node


def _log_calls(node: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a method of `log`, or of `self._log`, with its level."""
    for call in ast.walk(node):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and getattr(call.func.value, "id", getattr(call.func.value, "attr", "")) in ("log", "_log")
            and call.func.attr in LEVELS
        ):
            yield LEVELS[call.func.attr], call


def _ids(text: ast.expr, place: _Place) -> Iterator[str]:
    """Yield the texts that an expression may be: a literal, a choice of two, or a variable of such values."""
    values = list(_assigned(text.id, place.function)) if isinstance(text, ast.Name) else []
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        yield text.value
    elif isinstance(text, ast.IfExp):
        yield from _ids(text.body, place)
        yield from _ids(text.orelse, place)
    elif values:
        for value in values:
            yield from _ids(value, place)
    else:
        raise ValueError(f"{place.text}: the event's id must be a literal text")


def _assigned(variable: str, function: ast.AST) -> Iterator[ast.expr]:
    """Yield the values that a function assigns to a variable."""
    for node in ast.walk(function):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == variable for target in targets):
            value = getattr(node, "value", None)
            if isinstance(value, ast.expr):
                yield value


def _field_names(call: ast.Call, place: _Place) -> set[str]:
    """Return the names of a call's fields, those of ``**fields`` too."""
    names = {keyword.arg for keyword in call.keywords if keyword.arg and keyword.arg != "exc_info"}
    for keyword in call.keywords:
        if keyword.arg is None:
            names |= _unpacked(keyword.value, place)
    return names


def _unpacked(fields: ast.expr, place: _Place) -> set[str]:
    """Return the names in ``**fields``: a dict of the same function, or the function's own ``**fields``."""
    names: set[str] = set()
    if isinstance(fields, ast.Name):
        for value in _assigned(fields.id, place.function):
            names |= _dict_keys(value)
        names |= _item_names(fields.id, place.function)
        if isinstance(place.function, ast.FunctionDef | ast.AsyncFunctionDef):
            own = place.function.args.kwarg
            names |= _callers_names(place) if own is not None and own.arg == fields.id else set()
    else:
        names = _dict_keys(fields)
    if not names:
        raise ValueError(f"{place.text}: give the fields as keywords, or as a dict of this function")
    return names


def _dict_keys(value: ast.expr) -> set[str]:
    dicts = (node for node in ast.walk(value) if isinstance(node, ast.Dict))
    return {str(key.value) for node in dicts for key in node.keys if isinstance(key, ast.Constant)}


def _item_names(variable: str, function: ast.AST) -> set[str]:
    """Return the names that a function puts into a dict one by one: ``fields["detail"] = …``."""
    return {
        str(node.slice.value)
        for node in ast.walk(function)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == variable
        and isinstance(node.slice, ast.Constant)
    }


def _callers_names(place: _Place) -> set[str]:
    """Return the keywords with which the module calls a function, but for those of its own parameters."""
    function = place.function
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)  # noqa: S101 - tells mypy
    parameters = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
    return {
        keyword.arg
        for call in ast.walk(place.module)
        if isinstance(call, ast.Call)
        and function.name in (getattr(call.func, "attr", ""), getattr(call.func, "id", ""))
        for keyword in call.keywords
        if keyword.arg and keyword.arg not in parameters
    }
