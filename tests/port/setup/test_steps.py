"""How Port differs from what should be there, and the words for it."""

from app.port.setup.steps import (
    FieldDifference,
    Result,
    SetupStep,
    completed,
    differences,
    left_as_is,
    render,
)


def test_completed_and_differences() -> None:
    """What they lack is added, what they have stays but where it is enforced, and the rest can be said."""
    theirs = {"a": 1, "b": {"c": [1], "d": 2, "f": 6}, "own": 3, "g": None, "h": [1, 2]}
    ours = {"a": 7, "b": {"c": [1, 4], "e": 5, "f": 7}, "g": {"i": 8}, "h": [2]}
    target = completed(theirs, ours, {"b.f"})
    assert target == {"a": 1, "b": {"c": [1], "d": 2, "e": 5, "f": 7}, "own": 3, "g": {"i": 8}, "h": [1, 2]}
    assert list(differences(theirs, target)) == [
        FieldDifference("b.f", 6, 7),
        FieldDifference("b.e", None, 5),
        FieldDifference("g", None, {"i": 8}),
    ]
    assert [field.path for field in left_as_is(target, ours)] == ["a", "b.c"]


def test_render() -> None:
    """A step reads as a line, with its differences below it, each of a bearable length."""
    step = SetupStep("automation", "x", Result.CHANGED, (FieldDifference("a.b", None, "y" * 999),))
    first, second = render(step)
    assert first == "automation x: changed"
    assert second.startswith('    a.b: nothing → "yyy')
    assert len(second) < 200
    paused = SetupStep("automation", "x", Result.UNCHANGED, left=(FieldDifference("publish", False, True),))
    assert render(paused)[1].startswith("    left as it is: publish: false (it is paused")
    assert render(SetupStep("entity", "x", Result.ABSENT), dry_run=True) == ["entity x: not there"]
