"""Prometheus and Alertmanager with the command lines and the files of infra/compose.yaml."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from infra.local.ports import LOOPBACK, choose_port
from infra.local.process import wait_until
from tests.deployment.compose import SECRETS_PLACE, mounts_of, read_compose
from tests.deployment.native import describe, localize, run
from tests.monitoring.servers import PROMETHEUS_FOLDER, START_SECONDS, answers, find_program

CONFIGURATION_PLACE = "/etc/prometheus"


def test_what_is_mounted_is_what_the_rules_are_tested_in() -> None:
    assert mounts_of(read_compose(), "prometheus") == {CONFIGURATION_PLACE: PROMETHEUS_FOLDER}
    grafana = set(mounts_of(read_compose(), "grafana").values())
    assert {each.relative_to(PROMETHEUS_FOLDER.parent) for each in grafana} == {
        Path("grafana/provisioning"),
        Path("grafana/dashboards"),
    }


def test_targets_are_where_compose_has_the_services_listen() -> None:
    services = read_compose()["services"]
    exporter = services["exporter"]["environment"]
    expected = {
        "exporter": f"{exporter['SLUICEWAY_EXPORTER_HOST']}:{exporter['SLUICEWAY_EXPORTER_PORT']}",
        "prometheus": _listens_on(services["prometheus"]["command"]),
        "alertmanager": _listens_on(services["alertmanager"]["command"]),
    }
    for name, address in expected.items():
        file = PROMETHEUS_FOLDER / "targets" / f"{name}.yml"
        [group] = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert group["targets"] == [address]
    assert (
        services["grafana"]["environment"]["PROMETHEUS_URL"] == f"http://{expected['prometheus']}"
    )


def _listens_on(command: list[str]) -> str:
    [found] = [each for each in command if each.startswith("--web.listen-address=")]
    return found.partition("=")[2]


def test_prometheus_starts_with_what_is_mounted(tmp_path: Path) -> None:
    program = find_program("prometheus")
    address = f"{LOOPBACK}:{choose_port()}"
    words = "\n".join(describe("prometheus")["command"])
    places = {
        CONFIGURATION_PLACE: str(PROMETHEUS_FOLDER),
        "path=/prometheus": f"path={tmp_path / 'data'}",
        "127.0.0.1:9090": address,
    }
    (tmp_path / "data").mkdir()
    with run("prometheus", [program, *localize(words, places).split("\n")], tmp_path) as child:
        came = wait_until(lambda: answers(f"http://{address}/-/ready"), START_SECONDS)
        assert came, child.read_log()
        rules = httpx.get(f"http://{address}/api/v1/rules", timeout=10).json()["data"]["groups"]
        config = httpx.get(f"http://{address}/api/v1/status/config", timeout=10).json()["data"]
    written = list((PROMETHEUS_FOLDER / "rules").glob("*.yml"))
    assert {Path(each["file"]).name for each in rules} == {each.name for each in written}
    jobs = yaml.safe_load(config["yaml"])["scrape_configs"]
    assert {each["job_name"] for each in jobs} == {"sluiceway", "prometheus", "alertmanager"}


@pytest.mark.parametrize("has_mail", [True, False], ids=["mail", "no mail"])
def test_alertmanager_starts_with_what_the_one_before_wrote(
    tmp_path: Path, *, has_mail: bool
) -> None:
    program, tool = find_program("prometheus-alertmanager"), find_program("amtool")
    writer = describe("alertmanager-configuration")
    [place] = {each["target"] for each in writer["volumes"]}
    folder, password = tmp_path / "alertmanager", tmp_path / "smtp_password"
    password.write_text("only for tests", encoding="utf-8")
    places = {place: str(folder), f"{SECRETS_PLACE}/smtp_password": str(password)}
    given = {
        **writer["environment"],
        "SLUICEWAY_SMTP_PASSWORD_FILE": str(password),
        **({"SLUICEWAY_SMTP_HOST": "mail.example"} if has_mail else {}),
        "SLUICEWAY_MAIL_TO": json.dumps(["ops@mail.example"]),
    }
    made = subprocess.run(
        [sys.executable, "-m", *localize("\n".join(writer["command"]), places).split("\n")],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    configuration = folder / "alertmanager.yml"
    subprocess.run([tool, "check-config", str(configuration)], check=True, capture_output=True)
    assert ("mail.example" in configuration.read_text()) is has_mail
    address = f"{LOOPBACK}:{choose_port()}"
    words = "\n".join(describe("alertmanager")["command"])
    command = localize(words, {place: str(folder), "127.0.0.1:9093": address}).split("\n")
    with run("prometheus-alertmanager", [program, *command], tmp_path) as child:
        came = wait_until(lambda: answers(f"http://{address}/-/ready"), START_SECONDS)
        assert came, child.read_log()
