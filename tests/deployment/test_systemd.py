"""The systemd units: accepted by systemd, narrow, and in step with infra/compose.yaml."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deployments.secrets import SECRETS
from infra.settings import OTHER_VARIABLES, Settings
from tests.conftest import skip_or_fail
from tests.deployment.compose import CHECKOUT, read_compose

PROGRAM = "/usr/bin/systemd-analyze"
UNITS = CHECKOUT / "deployments" / "systemd"
SERVICES = sorted(each.name for each in UNITS.glob("*.service"))
HARDENING = "sluiceway-.service.d/10-hardening.conf"
MOST_EXPOSED = 25
"""Tenths of what `systemd-analyze security` gives, from 0 to 100; a bare service has 96."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's file system: systemd's own units, ours, and the programs that ours start."""
    if not Path(PROGRAM).exists():
        skip_or_fail("systemd-analyze is not installed: run `make system-packages`")
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    shutil.copytree(UNITS, tmp_path / "etc/systemd/system")
    for program in ("opt/sluiceway/.venv/bin/python", "bin/sh"):
        (tmp_path / program).parent.mkdir(parents=True)
        shutil.copy("/bin/true", tmp_path / program)
    return tmp_path


def instances(names: list[str]) -> list[str]:
    """Return units that can be started: a template with a pool."""
    pools = ("batch", "stream", "ops")
    plain = [each for each in names if "@" not in each]
    return [*plain, *(f"sluiceway-worker@{pool}.service" for pool in pools)]


def verify(root: Path) -> subprocess.CompletedProcess[str]:
    timers = [each.name for each in UNITS.glob("*.timer")]
    units = ["sluiceway.target", *timers, *instances(SERVICES)]
    return subprocess.run(
        [PROGRAM, "verify", f"--root={root}", *units],
        capture_output=True,
        text=True,
        check=False,
    )


def test_systemd_accepts_them(root: Path) -> None:
    done = verify(root)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("unit", "right", "wrong"),
    [
        ("sluiceway-keeper.service", "ExecStart=", "ExecStrat="),
        ("sluiceway-keeper.service", "[Service]", "[Servise]"),
        ("sluiceway-dashboard.service", "bin/python", "bin/pyhton"),
        ("sluiceway-mail.service", "Restart=always", "Restart=allways"),
        ("sluiceway-backup.service", "%%F", "%F%"),
        ("sluiceway-prune.timer", "OnCalendar=Sun", "OnCalendar=Someday"),
        (HARDENING, "ProtectSystem=strict", "ProtectSystem=strickt"),
        (HARDENING, "@system-service", "@system-servise"),
    ],
)
def test_a_typo_is_noticed(root: Path, unit: str, right: str, wrong: str) -> None:
    path = root / "etc/systemd/system" / unit
    text = path.read_text(encoding="utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    done = verify(root)
    assert done.returncode or done.stdout + done.stderr


def exposure(root: Path, unit: str, threshold: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(PROGRAM, "security", "--offline=true", "--no-pager"),
            *(f"--root={root}", f"--threshold={threshold}", unit),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("unit", instances(SERVICES))
def test_a_service_is_narrow(root: Path, unit: str) -> None:
    done = exposure(root, unit, MOST_EXPOSED)
    assert done.returncode == 0, done.stdout[-300:]


def test_without_the_hardening_it_is_not(root: Path) -> None:
    (root / "etc/systemd/system" / HARDENING).unlink()
    done = exposure(root, "sluiceway-dashboard.service", MOST_EXPOSED)
    assert done.returncode != 0


def lines_of(unit: str) -> list[str]:
    """Return the unit's lines, its own drop-ins' after them."""
    names = [str(each.relative_to(UNITS)) for each in UNITS.glob(f"{unit}.d/*.conf")]
    names = [unit, *names] if (UNITS / unit).exists() else names
    return [line for each in names for line in (UNITS / each).read_text("utf-8").splitlines()]


@pytest.mark.parametrize("unit", [*SERVICES, "sluiceway-worker@ops.service.d/50-ops.conf"])
def test_secrets_are_credentials_that_are_made(unit: str) -> None:
    lines = lines_of(unit)
    loaded = dict(re.findall(r"^LoadCredential=(\w+):(\S+)$", "\n".join(lines), re.MULTILINE))
    used = dict(re.findall(r"^Environment=(\w+)=%d/(\w+)$", "\n".join(lines), re.MULTILINE))
    assert loaded == {name: f"/etc/sluiceway/secrets/{name}" for name in loaded}
    assert loaded.keys() <= SECRETS.keys()
    assert set(used.values()) == loaded.keys()
    known = {f"SLUICEWAY_{name}_FILE".upper() for name in Settings.model_fields}
    assert used.keys() <= {*known, "PREFECT_PROFILES_PATH"}
    has_keys = bool({"cell_keys", "index_keys"} & loaded.keys())
    assert has_keys is unit.startswith("sluiceway-worker@.")
    assert not [line for line in lines if re.search(r"PASSWORD=|SECRET=|_KEYS?=", line)]


def test_other_variables_are_settings() -> None:
    text = "\n".join(each.read_text("utf-8") for each in UNITS.rglob("*.conf"))
    named = set(re.findall(r"(SLUICEWAY_\w+)=", text))
    known = {f"SLUICEWAY_{name}".upper() for name in Settings.model_fields}
    known |= {f"{name}_FILE" for name in known} | OTHER_VARIABLES
    assert named
    assert named <= known


def modules_of(text: str) -> set[str]:
    return set(re.findall(r"-m ((?:flows|deployments|infra|dash_app|prefect)[\w.]*)", text))


def test_a_host_runs_what_the_containers_run() -> None:
    text = "\n".join(each.read_text("utf-8") for each in UNITS.glob("*.service"))
    found = modules_of(text)
    assert not [each for each in found if importlib.util.find_spec(each) is None]
    services = read_compose()["services"].values()
    contained = {
        each["command"][0]
        for each in services
        if each["image"].startswith("sluiceway:") and "entrypoint" not in each
    }
    # By hand on a host: docs/deployment.md.
    by_hand = {"deployments.bootstrap", "deployments.topics", "infra.alertmanager"}
    # A schedule of the Prefect server's in containers.
    assert contained - by_hand == found - {"flows.prune_history"}
    guide = (CHECKOUT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert {each for each in by_hand if f"-m {each}" not in guide} == set()


def test_the_target_wants_each_of_them() -> None:
    wanted = set(
        " ".join(
            re.findall(r"^Wants=(.*)$", (UNITS / "sluiceway.target").read_text(), re.MULTILINE)
        ).split()
    )
    timed = {each.stem for each in UNITS.glob("*.timer")}
    always = {each for each in instances(SERVICES) if Path(each).stem not in timed}
    assert wanted == always | {f"{each}.timer" for each in timed}


def test_each_secret_of_the_compose_file_reaches_its_unit() -> None:
    """Who runs the same command is given the same secrets, in containers and on a host."""
    found = {}
    for unit in instances(SERVICES):
        template = re.sub(r"@\w+", "@", unit)
        lines = "\n".join([*lines_of(template), *(lines_of(unit) if unit != template else [])])
        for module in modules_of(lines):
            pool = unit.partition("@")[2].partition(".")[0]
            secrets = set(re.findall(r"^LoadCredential=(\w+):", lines, re.MULTILINE))
            found[f"{module} {pool}".strip()] = secrets
    for name, service in read_compose()["services"].items():
        command = service.get("command", [])
        if not service["image"].startswith("sluiceway:") or not command:
            continue
        pool = command[1] if command[0] == "deployments.worker" else ""
        key = f"{command[0]} {pool}".strip()
        if key in found:
            assert set(service.get("secrets", ())) == found[key], (name, key)
