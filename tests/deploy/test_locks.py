"""The lock files: nothing in them with an advisory that is known here, and a list of parts made from them."""

import csv
import json
import re
import subprocess
from pathlib import Path

from packaging.version import Version

from tests.acceptance.process import ROOT

ADVISORIES = Path(__file__).with_name("advisories.csv")
LOCKS = sorted(ROOT.glob("requirements*.lock"))


def locked(*locks: Path) -> set[tuple[str, str]]:
    """Return each package of some lock files, and its version."""
    return {
        (match["name"], match["version"])
        for lock in locks
        for match in re.finditer(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)", lock.read_text(), re.MULTILINE)
    }


def test_no_locked_version_has_a_known_advisory() -> None:
    """Each advisory of the list is about something that is locked, in a version that has its fix."""
    about, *lines = ADVISORIES.read_text().splitlines()
    rows = list(csv.DictReader(lines))
    looked_up, reported = re.findall(r"\d{4}-\d\d-\d\d", about)
    assert max(row["known_by"] for row in rows) <= reported <= looked_up
    packages = locked(*LOCKS)
    assert {row["package"] for row in rows} <= {name for name, _ in packages}
    least = {row["package"]: Version(row["least"]) for row in rows}
    assert [one for one in packages if one[0] in least and Version(one[1]) < least[one[0]]] == []


def test_the_tests_lock_has_the_programs() -> None:
    """`scripts/_venv test` installs that one alone."""
    assert locked(ROOT / "requirements.lock") < locked(ROOT / "requirements-test.lock")


def test_the_bill_of_materials(tmp_path: Path) -> None:
    """It is valid CycloneDX (the tool checks that by the schema), and has the whole lock, with hashes."""
    file = tmp_path / "sbom.json"
    made = subprocess.run([ROOT / "scripts" / "sbom", file], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    document = json.loads(file.read_text())
    assert document["metadata"]["component"]["name"] == "port-changelog-listener"
    parts = document["components"]
    assert {(part["name"], part["version"]) for part in parts} == locked(ROOT / "requirements.lock")
    assert all(part["externalReferences"][0]["hashes"] for part in parts)
    assert all(part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}" for part in parts)
