"""What runs the listener for good fits the listener: names, ports, paths, commands and settings."""

import asyncio
import os
import re
import runpy
import select
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from app.cli import COMMANDS
from app.cli.remote import TOKEN_VARIABLE, URL_VARIABLE
from app.demo.stand_in_slack import StandInSlack
from app.main import create_app
from app.settings import Settings
from app.store.sqlite.schema import LEAST_SQLITE
from tests.acceptance.process import free_port, listening
from tests.conftest import SECRET

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
GUIDE = (ROOT / "docs/operations.md").read_text()
UNIT = ROOT / "deploy/systemd/port-listener.service"
SETTINGS = {name.upper() for name in Settings.model_fields}
NOT_SETTINGS = {
    "POSTGRES_PASSWORD",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_DIR",
    "PORT_CLIENT_SECRET_FILE",
    "SSL_CERT_FILE",
    "REPOSITORY_URL",
    "NEW_DATABASE_URL",
}
"""Names in the guide that are no settings of the listener."""
EXPOSED = int(re.findall(r"^EXPOSE (\d+)", DOCKERFILE, re.MULTILINE)[0])
VOLUME = re.findall(r"^VOLUME (\S+)", DOCKERFILE, re.MULTILINE)[0]
ANALYZE = shutil.which("systemd-analyze")


def load(path: Path) -> Any:
    """Read a YAML file."""
    return YAML(typ="safe", pure=True).load(path)


def manifests() -> dict[str, Any]:
    """Return the Kubernetes manifests by kind."""
    found = [load(path) for path in (ROOT / "deploy/kubernetes").iterdir()]
    return {one["kind"]: one for one in found}


def test_compose() -> None:
    """Settings, port, volume and command are the image's and the listener's."""
    text = (ROOT / "compose.yaml").read_text()
    services = load(ROOT / "compose.yaml")["services"]
    listener, tunnel, postgres = services["listener"], services["tunnel"], services["postgres"]
    assert set(re.findall(r"\$\{(\w+)", text)) <= SETTINGS | {"POSTGRES_PASSWORD"}
    assert set(listener["environment"]) <= SETTINGS
    assert f"sqlite:///{VOLUME}/" in listener["environment"]["DATABASE_URL"]
    assert listener["volumes"] == [f"data:{VOLUME}"]
    assert listener["ports"] == [f"127.0.0.1:{EXPOSED}:{EXPOSED}"]
    assert tunnel["command"][:3] == ["python", "-m", "app"]
    assert tunnel["command"][3] in COMMANDS
    assert tunnel["command"][-1] == f"http://listener:{EXPOSED}/api/slack"
    assert (tunnel["profiles"], postgres["profiles"]) == (["tunnel"], ["postgres"])
    assert "profiles" not in listener


def unit() -> dict[str, list[str]]:
    """Return the systemd unit's values by name."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_systemd_unit() -> None:
    """Its command and its settings are the listener's, and the database is in its own folder."""
    values = unit()
    python, *arguments = values["ExecStart"][0].split()
    assert python == f"{values['WorkingDirectory'][0]}/.venv/bin/python"
    assert arguments[:2] == ["-m", "app"]
    assert arguments[2] in COMMANDS
    variables = dict(one.split("=", 1) for one in values["Environment"])
    assert {name for name in variables if not name.startswith("PYTHON")} <= SETTINGS
    assert variables["DATABASE_URL"] == f"sqlite:////var/lib/{values['StateDirectory'][0]}/listener.db"
    assert values["EnvironmentFile"][0] in GUIDE
    for name in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "ProtectHome"):
        assert values[name] == ["yes"]
    assert values["ProtectSystem"] == ["strict"]


@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")
def test_systemd_itself_takes_the_unit(tmp_path: Path) -> None:
    """systemd has nothing against the unit, and finds it well shut off."""
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"/opt/\S+/python", sys.executable, UNIT.read_text()))
    verified = subprocess.run([ANALYZE or "", "verify", copy], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = [ANALYZE or "", "security", "--offline=yes", "--threshold=15", "--no-pager", str(copy)]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    if "offline" in judged.stderr:
        pytest.skip("needs systemd 250")
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_kubernetes_names_fit() -> None:
    """What one manifest names the others have."""
    kinds = manifests()
    assert set(kinds) == {"Deployment", "Service", "PersistentVolumeClaim", "Secret"}
    deployment = kinds["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == kinds["Service"]["spec"]["selector"] == labels
    (container,) = pod["containers"]
    assert container["envFrom"][0]["secretRef"]["name"] == kinds["Secret"]["metadata"]["name"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    claim = volumes["data"]["persistentVolumeClaim"]["claimName"]
    assert claim == kinds["PersistentVolumeClaim"]["metadata"]["name"]
    assert {one["name"] for one in container["volumeMounts"]} == set(volumes)
    assert volumes["rules"]["configMap"]["name"] in GUIDE
    (port,) = kinds["Service"]["spec"]["ports"]
    assert port["targetPort"] == container["ports"][0]["name"]


def test_kubernetes_fits_the_image() -> None:
    """User, port, volume, probes and settings are the image's and the listener's; SQLite has one process."""
    kinds = manifests()
    deployment = kinds["Deployment"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert container["image"] == f"port-listener:{version}"
    assert f"USER {pod['securityContext']['runAsUser']}\n" in DOCKERFILE
    assert container["ports"] == [{"name": "http", "containerPort": EXPOSED}]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounts["data"] == VOLUME
    assert "env" not in container  # it would win over what the Secret says
    assert f"DATABASE_URL=sqlite:///{VOLUME}/listener.db\n" in DOCKERFILE
    keys = re.findall(
        r"^  (?:# )?([A-Z_]+):", (ROOT / "deploy/kubernetes/secret.yaml.example").read_text(), re.M
    )
    assert "PORT_CLIENT_SECRET" in keys
    assert set(keys) <= SETTINGS
    routes = set(create_app(Settings(_env_file=None, port_client_secret=SECRET)).openapi()["paths"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["path"] in routes
        assert asked["port"] == "http"


def test_the_image() -> None:
    """It is compiled, built from locks only, and its data belongs to group 0; a pod waits before it stops."""
    _, build, image = DOCKERFILE.split("\nFROM ")
    assert "compileall" in build
    assert "COPY --from=build /srv/app" in image
    assert "-g 0 -m 770 /data" in image
    assert build.count("pip install --require-hashes --no-deps") == build.count("pip install")
    assert "--no-build-isolation -r sseclient.lock" in build
    (container,) = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    for name in ("README.md", "docs/operations.md"):
        text = (ROOT / name).read_text()
        assert "--format docker" in text
        assert "2.20" in text
    assert ".".join(map(str, LEAST_SQLITE)) in (ROOT / "README.md").read_text()


def test_what_has_no_wheel_is_built_with_what_is_locked() -> None:
    """The lock of the build has setuptools, with hashes; the lines that the scripts take out are whole."""
    assert re.search(r"^setuptools==\S+ \\\n +--hash=", (ROOT / "requirements-build.lock").read_text(), re.M)
    program = ["sed", "-n", r"/^sseclient==/,/[^\\]$/p", str(ROOT / "requirements.lock")]
    taken = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"sseclient==\S+( \\\n +--hash=sha256:\w+)+\n", taken)
    for user in (DOCKERFILE, (ROOT / "scripts/_venv").read_text()):
        assert program[2] in user


def test_the_secret_is_not_applied_with_the_rest() -> None:
    """`kubectl apply -f deploy/kubernetes` takes .yaml files, and must not overwrite a real secret."""
    kinds = [load(path)["kind"] for path in (ROOT / "deploy/kubernetes").glob("*.y*ml")]
    assert kinds
    assert "Secret" not in kinds


def test_the_guide_says_what_is_so() -> None:
    """Commands, files and settings that docs/operations.md names exist."""
    shown = re.findall(r"-m app ([a-z]+)", GUIDE)
    assert set(shown) <= set(COMMANDS)
    assert {"backup", "export", "serve"} <= set(shown)
    for path in re.findall(r"deploy/[\w./-]+", GUIDE):
        assert (ROOT / path).exists(), path
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", GUIDE))
    of_commands = {URL_VARIABLE, TOKEN_VARIABLE, "XDG_CONFIG_HOME"}
    assert named <= SETTINGS | NOT_SETTINGS | of_commands


@pytest.mark.acceptance
async def test_the_images_healthcheck(tmp_path: Path, slack: StandInSlack) -> None:
    """It asks the port of the process, whatever it is, and no proxy; it fails when nobody answers."""
    assert "deploy/healthcheck.py" in (ROOT / ".dockerignore").read_text()
    healthcheck = [sys.executable, str(ROOT / "deploy/healthcheck.py")]
    proxy = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    dispatch = (sys.executable, "-m", "app", "dispatch", "--host=0.0.0.0")
    async with listening(tmp_path, slack.url, command=dispatch, anew=True) as listener:
        assert listener.process is not None
        command = [*healthcheck, str(listener.process.pid)]
        done = await asyncio.to_thread(subprocess.run, command, env=os.environ | proxy, check=False)
        assert done.returncode == 0
    idle = [sys.executable, "-c", "input()", "--port", str(free_port())]
    with subprocess.Popen(idle, stdin=subprocess.PIPE) as process:
        command = [*healthcheck, str(process.pid)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        process.communicate(b"\n")
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        (["serve", "--host", "0.0.0.0"], "http://127.0.0.1:8080/healthz"),
        (
            ["/sbin/docker-init", "--", "python", "--port=1", "--port", "8081"],
            "http://127.0.0.1:8081/healthz",
        ),
        (["serve", "--host", "::", "--port=8081"], "http://127.0.0.1:8081/healthz"),
        (["serve", "--host=fd00::1"], "http://[fd00::1]:8080/healthz"),
    ],
)
def test_the_address_of_the_healthcheck(arguments: list[str], url: str) -> None:
    """It is that of the command line, as `serve` reads it."""
    assert runpy.run_path(str(ROOT / "deploy/healthcheck.py"))["address"](arguments) == url


def test_a_check_does_not_outlive_the_tests(tmp_path: Path) -> None:
    """If something that the tests need cannot be had, the check that runs beside ends with the script."""
    scripts, begun = tmp_path / "scripts", tmp_path / "begun"
    scripts.mkdir()
    shutil.copy(ROOT / "scripts" / "test", scripts)
    parts = {
        "_venv": f"set -euo pipefail; cd {tmp_path}",
        "check": f"#!/bin/sh\nsh -c 'touch {begun}; sleep 20'",
        "_promtool": f"until [ -e {begun} ]; do sleep 0.05; done; exit 7",
    }
    for name, text in parts.items():
        (scripts / name).write_text(text)
        (scripts / name).chmod(0o755)
    alive, held = os.pipe()
    done = subprocess.run([scripts / "test"], check=False, pass_fds=[held])
    os.close(held)
    assert done.returncode == 7
    assert select.select([alive], [], [], 5)[0]  # nobody holds the other end any more
    os.close(alive)
