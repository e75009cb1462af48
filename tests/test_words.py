"""One word for one thing, counted over the whole program."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[1] / "app"
MODULES = sorted(APP.rglob("*.py"))
ROOT_MODULES = 8
FILES_OF_A_FOLDER = 18
LINES_OF_A_MODULE = 300
VAGUE = {"one", "said", "found", "given", "told"}
"""Words that say nothing of what a variable holds."""


def defined() -> dict[str, set[str]]:
    """Give each public class and constant with the modules that define it at their top."""
    names = defaultdict(set)
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                names[node.name].add(str(path))
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                    if isinstance(name, ast.Name) and name.id.isupper():
                        names[name.id].add(str(path))
    return {name: paths for name, paths in names.items() if not name.startswith("_")}


def test_no_name_means_two_things() -> None:
    """No class and no constant has a name that another module defines too."""
    assert {name: sorted(paths) for name, paths in defined().items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(APP)))
def test_a_module(path: Path) -> None:
    """Each is of a length that can be read at once, its docstrings say what goes in and out."""
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_OF_A_MODULE
    assert not re.findall(r'"""(?:Return (?:what|how|why|whether|where|who|which)\b|See )', text)
    loops = {
        name.id
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension)
        for name in ast.walk(node.target)
        if isinstance(name, ast.Name)
    }
    assert loops & VAGUE == set()


def folders() -> Iterator[tuple[str, int]]:
    """Give each folder with its number of modules."""
    for folder in sorted({path.parent for path in MODULES}):
        yield str(folder.relative_to(APP)), len(list(folder.glob("*.py")))


def test_folders_that_can_be_looked_through() -> None:
    """The root has few modules, and no folder so many that one would have to search."""
    counts = dict(folders())
    assert counts.pop(".") <= ROOT_MODULES
    assert {name: count for name, count in counts.items() if count > FILES_OF_A_FOLDER} == {}
