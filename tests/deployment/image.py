"""What of the image can be shown without an engine: `make image-check`, some minutes.

The files that the Dockerfile copies are put into an empty folder, with the packages of the image's
lock and no others. From there each command of infra/compose.yaml that runs from our image is
started with the environment that compose and the Dockerfile give it, until the health check of
compose is content; what is meant to end has to end with 0. Then deployments are run by the workers.
PostgreSQL (Debian's) and the embedded broker are there for them, in clear and on loopback. At the
end nothing in the folder may have been changed: the root file system can be read-only.

Ends in a line that says how many were well. What is not shown: the base images, and an engine's
own doing (users, limits, capabilities).
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from deployments.secrets import Places, make_secrets
from infra.local.embedded_broker import EmbeddedBroker
from infra.local.ports import LOOPBACK, choose_port
from infra.local.postgres import Postgres
from infra.local.process import Child, Launch, wait_until
from tests.deployment.compose import CHECKOUT, SECRETS_PLACE, is_one_shot, read_compose
from tests.deployment.dockerfile import Instruction, last_stage, parse

DEBIAN_BIN = Path("/usr/lib/postgresql/15/bin")
HEALTH_SECONDS = 180.0
PYTHON_PLACE = "/opt/sluiceway/.venv/bin/python"
ORDER = ("certificates", "front", "prefect", "topics", "bootstrap")
"""Whom the others need, in this order."""
LAST = "backup"
RUNS = {"daily_etl_pipeline/daily": "worker-batch", "prune_history/weekly": "worker-ops"}
"""Deployments to run once, and whose environment to ask for it with."""
TEMPORARY = "/tmp/"  # noqa: S108 - what is looked for in the file


@dataclass
class Result:
    """What came of each service."""

    well: list[str] = field(default_factory=list)
    ill: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, wrong: str) -> None:
        """Keep what is wrong with it, if anything is."""
        if wrong:
            self.ill[name] = wrong
        else:
            self.well.append(name)


def build(folder: Path, instructions: list[Instruction]) -> None:
    """Leave in the folder what the Dockerfile puts into WORKDIR."""
    ignored = [
        line.removeprefix("**/")
        for line in (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("**/") or (line and line[0] not in "#!*")
    ]
    inner = {str(CHECKOUT / each) for each in ignored}
    patterns = shutil.ignore_patterns(*(each for each in ignored if "/" not in each))

    def leave_out(place: str, names: list[str]) -> set[str]:
        return {
            *patterns(place, names),
            *(each for each in names if str(Path(place) / each) in inner),
        }

    for each in last_stage(instructions):
        if each.name != "COPY" or each.option("from"):
            continue
        *sources, target = each.words
        for source in sources:
            there = CHECKOUT / source
            if there.is_dir():
                shutil.copytree(there, folder / target, ignore=leave_out)
            else:
                shutil.copy(there, folder / target / there.name)
    [install] = [each.text for each in instructions if "pip install" in each.text]
    options = re.findall(r"--(?!no-cache-dir)[\w-]+(?:=\S+)?", install.partition("-r ")[0])
    python = str(folder / ".venv" / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", str(folder / ".venv")], check=True)
    subprocess.run(
        [
            *(python, "-m", "pip", "install", "--quiet", *options),
            *("-r", str(CHECKOUT / "deployments" / "requirements.lock")),
        ],
        check=True,
    )
    # Packages carry templates that are no valid Python.
    subprocess.run(
        [python, "-m", "compileall", "-q", "-q", str(folder / ".venv" / "lib")], check=False
    )
    packages = ("schemas", "infra", "tasks", "flows", "dash_app", "deployments")
    subprocess.run([python, "-m", "compileall", "-q", *packages], check=True, cwd=folder)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return each file's size and time."""
    found = {}
    for path in folder.rglob("*"):
        state = path.lstat()
        found[str(path.relative_to(folder))] = (state.st_size, state.st_mtime_ns)
    return found


class Stage:
    """The services around, and what compose says put into this machine's terms."""

    def __init__(self, folder: Path, server: Postgres, broker: EmbeddedBroker) -> None:
        self.image = folder / "image"
        self.work = folder / "work"
        # No API is called from here.
        self.compose = read_compose(API_ENDPOINTS="[]")
        self.ports = {"4200": choose_port()}
        self.ports["8050"] = choose_port(avoid=[*self.ports.values()])
        self.ports["9108"] = choose_port(avoid=[*self.ports.values()])
        self._server = server
        self._broker = broker
        self._secrets = self._make_secrets()
        self._given = self._read_image_environment()

    @property
    def python(self) -> str:
        return str(self.image / ".venv" / "bin" / "python")

    def ours(self) -> list[str]:
        """Return the services of our image, in an order in which they can start."""
        named = [
            name
            for name, each in self.compose["services"].items()
            if each["image"].startswith("sluiceway:")
        ]
        middle = [each for each in named if each not in {*ORDER, LAST}]
        assert {*ORDER, LAST} <= set(named)
        return [*ORDER, *middle, LAST]

    def command(self, name: str) -> list[str]:
        service = self.compose["services"][name]
        if "entrypoint" in service:
            return [*service["entrypoint"], *service.get("command", ())]
        return [self.python, "-m", *(self._here(each) for each in service["command"])]

    def probe(self, name: str) -> list[str]:
        kind, *words = self.compose["services"][name]["healthcheck"]["test"]
        assert kind == "CMD"
        return [self._here(each) for each in words]

    def environment(self, name: str) -> dict[str, str]:
        """Return what the process finds, and nothing of this shell's."""
        given = {
            key: self._here(str(each))
            for key, each in self.compose["services"][name].get("environment", {}).items()
        }
        for key in list(given):
            if "TLS" in key or key in {"PREFECT_API_SSL_CERT_FILE", "SLUICEWAY_KAFKA_CA_FILE"}:
                del given[key]  # in clear, and on loopback
        if "PREFECT_API_URL" in given:
            given["PREFECT_API_URL"] = f"http://{LOOPBACK}:{self.ports['4200']}/api"
        if "SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS" in given:
            given["SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS"] = self._broker.bootstrap_servers
            given["SLUICEWAY_KAFKA_SECURITY"] = "plaintext"
            given["SLUICEWAY_KAFKA_IDLE_PAUSE_SECONDS"] = "0.1"
        return {**self._given, **given, "PREFECT_HOME": str(self.work / f"prefect-{name}")}

    def _here(self, text: str) -> str:
        places = {
            PYTHON_PLACE: self.python,
            SECRETS_PLACE: str(self._secrets),
            "/data/raw": str(CHECKOUT / "data" / "raw"),
            "/var/lib/sluiceway": str(self.work),
            TEMPORARY: f"{self.work / 'tmp'}/",
        }
        # All at once: what was put in for one may look like another.
        pattern = "|".join(re.escape(each) for each in places)
        text = re.sub(pattern, lambda found: places[found[0]], text)
        for there, port in self.ports.items():
            text = re.sub(rf"(^|127\.0\.0\.1:){there}\b", rf"\g<1>{port}", text)
        return text

    def _read_image_environment(self) -> dict[str, str]:
        instructions = parse((CHECKOUT / "deployments" / "Dockerfile").read_text(encoding="utf-8"))
        [said] = [each.text for each in last_stage(instructions) if each.name == "ENV"]
        given = dict(each.split("=", 1) for each in said.split())
        (self.work / "tmp").mkdir(parents=True)
        return given | {
            "PATH": f"{self.image / '.venv' / 'bin'}:{DEBIAN_BIN}:/usr/bin:/bin",
            "HOME": str(self.work / "tmp"),
            "TMPDIR": str(self.work / "tmp"),
            "SLUICEWAY_CHECKOUT": str(self.image),
            "SLUICEWAY_LOG_FOLDER": str(self.work / "logs"),
            "NO_PROXY": f"{LOOPBACK},localhost",
        }

    def _make_secrets(self) -> Path:
        secrets = self.work / "secrets"
        make_secrets(secrets, Places(f"{LOOPBACK}:{self._server.port}", ""))
        for path in secrets.glob("*database_url"):
            parts = urlsplit(path.read_text(encoding="utf-8"))
            path.write_text(urlunsplit(parts._replace(query="")), encoding="utf-8")
        for role, name, options in (
            ("sluiceway_owner", "sluiceway", "CREATEROLE"),
            ("prefect", "prefect", ""),
        ):
            secret = secrets / f"postgres_{role.removeprefix('sluiceway_')}"
            self._server.ensure_role(role, secret.read_text(encoding="utf-8"), options=options)
            self._server.ensure_database(name, owner=role)
        return secrets


def run_all(stage: Stage, say: Callable[[str], None]) -> Result:
    """Start each, see it well, and stop them all."""
    result = Result()
    with ExitStack() as running:
        for name in stage.ours():
            if is_one_shot(stage.compose, name):
                if name == LAST:
                    (stage.work / "backups").mkdir()
                wrong = _run_once(stage, name, stage.command(name))
            else:
                wrong = _wait_for_health(stage, name, running.enter_context(_start(stage, name)))
            say(f"{'ill ' if wrong else 'well'}  {name}  {' '.join(stage.command(name)[2:4])}")
            result.note(name, wrong)
        for deployment, worker in RUNS.items():
            command = [stage.python, "-m", "prefect", "deployment", "run", deployment, "--watch"]
            wrong = _run_once(stage, worker, command)
            say(f"{'ill ' if wrong else 'well'}  a run of {deployment}")
            result.note(deployment, wrong)
    return result


def _run_once(stage: Stage, name: str, command: list[str]) -> str:
    """Run it with the environment of the service; returns what is wrong."""
    done = subprocess.run(
        command,
        env=stage.environment(name),
        cwd=stage.image,
        capture_output=True,
        text=True,
        check=False,
        timeout=HEALTH_SECONDS,
    )
    said = f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    return "" if done.returncode == 0 else f"exit code {done.returncode}: {said}"


@contextmanager
def _start(stage: Stage, name: str) -> Iterator[Child]:
    child = Child(
        Launch(
            name=name,
            command=stage.command(name),
            environment=stage.environment(name),
            log=stage.work / f"{name}.log",
            working_folder=stage.image,
        )
    )
    try:
        yield child
    finally:
        child.stop(20)


def _wait_for_health(stage: Stage, name: str, child: Child) -> str:
    said = ""

    def is_well() -> bool:
        nonlocal said
        done = subprocess.run(
            stage.probe(name),
            env=stage.environment(name),
            cwd=stage.image,
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stderr.strip()
        return done.returncode == 0 or not child.is_running

    came = wait_until(is_well, HEALTH_SECONDS)
    if not child.is_running:
        return f"it ended: {child.read_log()}"
    return "" if came else f"{said}\n{child.read_log()}"


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what was written, changed or deleted."""
    every = sorted({*before, *after})
    return [each for each in every if before.get(each) != after.get(each)]


def main() -> None:
    """Exit with 0 where every service is well and nothing was written."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.deployment.image",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    if not (DEBIAN_BIN / "postgres").exists():
        sys.exit("PostgreSQL 15 is not installed: run `make system-packages`")

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    instructions = parse((CHECKOUT / "deployments" / "Dockerfile").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="sluiceway-image-") as name:
        folder = Path(name)
        (folder / "image").mkdir()
        say("Putting the image's files and packages into an empty folder …")
        build(folder / "image", instructions)
        before = snapshot(folder / "image")
        say(f"{len(before)} files and folders.")
        with (
            Postgres(folder / "postgres" / "data", bin_folder=DEBIAN_BIN) as server,
            EmbeddedBroker(folder / "broker") as broker,
        ):
            result = run_all(Stage(folder, server, broker), say)
        written = compare(before, snapshot(folder / "image"))
    for service, wrong in result.ill.items():
        say(f"{service}: {wrong}")
    for each in written[:20]:
        say(f"written: {each}")
    say(f"well={len(result.well)} ill={len(result.ill)} written={len(written)}")
    sys.exit(1 if result.ill or written else 0)


if __name__ == "__main__":
    main()
