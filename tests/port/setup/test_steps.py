"""How Port differs from what should be there, and the words for it."""

from app.port.setup.steps import FieldDifference, Result, SetupStep, differences, merged, render


def test_merge_and_differences() -> None:
    """Ours is laid over theirs; what only they have is neither lost nor a difference."""
    theirs = {"a": 1, "b": {"c": [1], "d": 2}, "own": 3}
    ours = {"a": 1, "b": {"c": [1, 4], "e": 5}}
    target = merged(theirs, ours)
    assert target == {"a": 1, "b": {"c": [1, 4], "d": 2, "e": 5}, "own": 3}
    assert list(differences(theirs, target)) == [
        FieldDifference("b.c", [1], [1, 4]),
        FieldDifference("b.e", None, 5),
    ]


def test_render() -> None:
    """A step reads as a line, with its differences below it, each of a bearable length."""
    step = SetupStep("automation", "x", Result.CHANGED, (FieldDifference("a.b", None, "y" * 999),))
    first, second = render(step)
    assert first == "automation x: changed"
    assert second.startswith('    a.b: nothing → "yyy')
    assert len(second) < 200
    assert render(SetupStep("entity", "x", Result.ABSENT), dry_run=True) == ["entity x: not there"]
