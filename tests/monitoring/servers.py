"""The real programs that watch: started on free ports of loopback, and stopped by their ids."""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from infra.alertmanager.configuration import write_configuration
from infra.local.environment import inherit_environment
from infra.local.ports import LOOPBACK, choose_port
from infra.local.process import Child, Launch, wait_until
from infra.settings import Settings
from tests.conftest import skip_or_fail

CHECKOUT = Path(__file__).parents[2]
PROMETHEUS_FOLDER = CHECKOUT / "infra" / "prometheus"
START_SECONDS = 60.0
WAIT_SECONDS = 60.0
PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")


def find_program(name: str) -> str:
    """Return where it is; skips the test, or fails it in CI, where it is not."""
    found = shutil.which(name)
    if found is None:
        skip_or_fail(f"{name} is not installed: run `make system-packages`")
        raise AssertionError
    return found


@contextmanager
def run_server(
    name: str,
    command: list[str],
    ready: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Child]:
    """Yield it once `ready` answers; it is stopped afterwards, and dies with this process."""
    child = Child(
        Launch(
            name=name,
            command=command,
            environment={**inherit_environment(str(folder)), **(environment or {})},
            log=folder / f"{name}.log",
            working_folder=CHECKOUT,
        )
    )
    try:
        came = wait_until(lambda: answers(ready) or not child.is_running, START_SECONDS)
        assert came, f"{name} does not answer at {ready}:\n{child.read_log()}"
        assert child.is_running, child.explain_end()
        yield child
    finally:
        child.stop()


def answers(url: str) -> bool:
    """Tell whether there is a 200."""
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


@dataclass(frozen=True)
class Prometheus:
    """A running one, asked over HTTP."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30)
        body = answer.json()
        assert body["status"] == "success", f"{parameters}: {body}"
        return body["data"]

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series as of now."""
        data = self.ask("query", query=expr)
        assert data["resultType"] == "vector", expr
        return [(each["metric"], float(each["value"][1])) for each in data["result"]]

    def query_range(self, expr: str, begin: float, end: float) -> list[float]:
        """Return every value between the times, in seconds since 1970."""
        data = self.ask("query_range", query=expr, start=str(begin), end=str(end), step="1")
        return [float(value) for each in data["result"] for _, value in each["values"]]

    def figures(self, expr: str) -> dict[tuple[str, ...], float]:
        """Return values by the values of their labels, in the order of the labels' names."""
        return {
            tuple(value for _, value in sorted(labels.items())): figure
            for labels, figure in self.query(expr)
        }


@contextmanager
def run_exporter(folder: Path, monitor_url: str) -> Iterator[str]:
    """Yield host:port of the exporter, as `make up` starts it."""
    port = choose_port()
    environment = {
        "SLUICEWAY_MONITOR_DATABASE_URL": monitor_url,
        "SLUICEWAY_EXPORTER_HOST": LOOPBACK,
        "SLUICEWAY_EXPORTER_PORT": str(port),
        "SLUICEWAY_LOG_FOLDER": str(folder / "logs"),
    }
    command = [sys.executable, "-m", "infra.exporter"]
    address = f"{LOOPBACK}:{port}"
    with run_server("exporter", command, f"http://{address}/healthz", folder, environment):
        yield address


@contextmanager
def run_alertmanager(folder: Path, settings: Settings) -> Iterator[str]:
    """Yield host:port of an Alertmanager with the committed configuration, which does not wait."""
    program = find_program("prometheus-alertmanager")
    path = write_configuration(settings, folder / "alertmanager")
    configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
    configuration["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    address = f"{LOOPBACK}:{choose_port()}"
    command = [
        program,
        f"--config.file={path}",
        f"--storage.path={folder / 'alertmanager_data'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with run_server("alertmanager", command, f"http://{address}/-/ready", folder):
        yield address


@contextmanager
def run_prometheus(folder: Path, *, exporter: str, alertmanager: str) -> Iterator[Prometheus]:
    """Yield a Prometheus with the committed configuration, which looks every second."""
    program = find_program("prometheus")
    address = f"{LOOPBACK}:{choose_port()}"
    mine = folder / "prometheus"
    shutil.copytree(PROMETHEUS_FOLDER, mine)
    path = mine / "prometheus.yml"
    configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
    configuration["global"] |= {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    targets = {"exporter": exporter, "prometheus": address, "alertmanager": alertmanager}
    for name, target in targets.items():
        file = mine / "targets" / f"{name}.yml"
        assert file.exists(), f"{file.name} is no file of the committed targets"
        file.write_text(json.dumps([{"targets": [target]}]), encoding="utf-8")
    command = [
        program,
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'prometheus_data'}",
        f"--web.listen-address={address}",
    ]
    with run_server("prometheus", command, f"http://{address}/-/ready", folder):
        yield Prometheus(f"http://{address}")
