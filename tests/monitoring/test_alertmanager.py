"""Alertmanager takes the configuration, keeps secrets out of it, and mutes what follows."""

import datetime as dt
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from infra.alertmanager.configuration import (
    PASSWORD,
    SOURCE_FOLDER,
    compose_configuration,
    write_configuration,
)
from infra.local.environment import inherit_environment
from infra.local.process import wait_until
from infra.settings import Settings
from schemas.errors import SettingError
from tests.monitoring.servers import CHECKOUT, WAIT_SECONDS, run_alertmanager
from tests.monitoring.test_rules import ALERTS

Labels = dict[str, str]
SECRET = "hunter2"


def settings(**given: object) -> Settings:
    return Settings(smtp_host="mail.test", mail_to=("a@mail.test", "b@mail.test"), **given)  # type: ignore[arg-type]


def check(program: str, path: Path) -> None:
    done = subprocess.run(
        [program, "check-config", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_committed_configuration_is_one_that_alertmanager_takes(
    programs: dict[str, str],
) -> None:
    check(programs["amtool"], SOURCE_FOLDER / "alertmanager.yml")


def test_the_password_stands_in_a_file_of_its_own(programs: dict[str, str], tmp_path: Path) -> None:
    path = write_configuration(settings(smtp_user="me", smtp_password=SECRET), tmp_path / "am")
    check(programs["amtool"], path)
    assert SECRET not in path.read_text("utf-8")
    secret = path.with_name(PASSWORD)
    assert secret.read_text("utf-8") == SECRET
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    given = yaml.safe_load(path.read_text("utf-8"))
    assert given["global"]["smtp_auth_password_file"] == str(secret)
    assert given["global"]["smtp_smarthost"] == "mail.test:587"
    assert given["global"]["smtp_require_tls"] is True
    assert given["receivers"][0]["email_configs"][0]["to"] == "a@mail.test, b@mail.test"


def test_a_password_that_is_mounted_is_not_copied(programs: dict[str, str], tmp_path: Path) -> None:
    mounted = Path("/run/secrets/smtp_password")
    given = settings(smtp_user="me", smtp_password=SECRET)
    write_configuration(given, tmp_path)
    path = write_configuration(given, tmp_path, password_file=mounted)
    check(programs["amtool"], path)
    assert not (tmp_path / PASSWORD).exists()
    named = yaml.safe_load(path.read_text("utf-8"))["global"]["smtp_auth_password_file"]
    assert named == str(mounted)


def test_without_a_mail_server_alerts_are_shown_and_not_mailed(
    programs: dict[str, str], tmp_path: Path
) -> None:
    path = write_configuration(Settings(smtp_host=""), tmp_path)
    check(programs["amtool"], path)
    assert yaml.safe_load(path.read_text("utf-8"))["receivers"] == [{"name": "people"}]


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"mail_to": ()}, "SLUICEWAY_MAIL_TO"),
        ({"smtp_security": "tls"}, "SLUICEWAY_SMTP_PORT"),
        ({"smtp_port": 465}, "SLUICEWAY_SMTP_PORT"),
    ],
)
def test_settings_that_alertmanager_cannot_follow_are_refused(
    given: dict[str, object], variable: str
) -> None:
    with pytest.raises(SettingError, match=variable):
        compose_configuration(settings().model_copy(update=given), Path("/a/file"))


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.alertmanager", str(tmp_path)],
        cwd=CHECKOUT,
        env=inherit_environment("") | {"SLUICEWAY_SMTP_HOST": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "SLUICEWAY_SMTP_HOST is not set" in done.stdout
    assert (tmp_path / "templates" / "mail.tmpl").exists()


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that mails nobody."""
    folder = tmp_path_factory.mktemp("alertmanager")
    with run_alertmanager(folder, Settings(smtp_host="")) as address:
        yield f"http://{address}/api/v2/alerts"


def alert(name: str, **labels: str) -> Labels:
    rule = ALERTS[name]
    return {"alertname": name, **rule["labels"], **labels}


def component(name: str) -> Labels:
    return alert("ComponentDown", component=name)


DAILY = {"pipeline": "daily_etl_pipeline"}
STREAM = {"group": "g", "topic": "t"}
STALE, OVERDUE = alert("DatasetStale", dataset="sales_data"), alert("PipelineOverdue", **DAILY)
BEHIND = alert("StreamBehind", **STREAM)
# The cause, what is muted by it, and what is not.
CAUSES = [
    (alert("ExporterDown"), [alert("DatabaseDown"), OVERDUE, BEHIND], [alert("AlertmanagerDown")]),
    (
        alert("DatabaseDown"),
        [OVERDUE, component("kafka"), alert("MetricsAbsent", metric="m"), alert("MailsWaiting")],
        [alert("AlertmanagerDown"), alert("AlertmanagerCannotSend", integration="email")],
    ),
    (
        component("postgres"),
        [OVERDUE, BEHIND, alert("MailsWaiting")],
        [alert("CertificateExpires")],
    ),
    (component("kafka"), [BEHIND, alert("StreamRestarts")], [OVERDUE, alert("DeadLettersGrow")]),
    (
        component("workers"),
        [OVERDUE, STALE],
        [BEHIND, alert("PipelineFailed", pipeline="replay_topic")],
    ),
    (
        alert("HealthChecksStopped"),
        [alert("ComponentUnknown", component="kafka")],
        [component("kafka")],
    ),
    (
        component("dashboard"),
        [alert("UptimeBudgetBurnsFast", component="dashboard")],
        [alert("UptimeBudgetBurnsFast", component="prefect"), OVERDUE],
    ),
    (
        alert("UptimeBudgetBurnsFast", component="kafka"),
        [alert("UptimeBudgetBurnsSlowly", component="kafka")],
        [alert("UptimeBudgetBurnsSlowly", component="prefect")],
    ),
    (
        OVERDUE,
        [alert("PipelineFailed", **DAILY), alert("RunHanging", **DAILY)],
        [alert("PipelineFailed", pipeline="kafka_data_ingestion"), STALE],
    ),
    (
        alert("StreamLagUnmeasured", **STREAM),
        [BEHIND],
        [alert("StreamBehind", group="other", topic="t")],
    ),
    (BEHIND, [alert("StreamBacklogGrows", **STREAM)], [alert("DeadLettersGrow")]),
]


@pytest.mark.parametrize(
    ("cause", "muted", "heard"),
    CAUSES,
    ids=lambda given: given.get("alertname", "") if isinstance(given, dict) else "",
)
def test_what_follows_of_another_alert_is_muted(
    alertmanager: str, cause: Labels, muted: list[Labels], heard: list[Labels]
) -> None:
    every = [cause, *muted, *heard]
    post(alertmanager, every, ends_in=dt.timedelta(minutes=5))
    try:
        silent = [find(alertmanager, each) for each in muted]
        came = wait_until(
            lambda: all(find(alertmanager, each)["inhibitedBy"] for each in muted), WAIT_SECONDS
        )
        assert came, silent
        for each in (cause, *heard):
            assert find(alertmanager, each)["inhibitedBy"] == [], each
    finally:
        post(alertmanager, every, ends_in=dt.timedelta(seconds=-1))


def post(url: str, alerts: list[Labels], *, ends_in: dt.timedelta) -> None:
    now = dt.datetime.now(dt.UTC)
    times = {
        "startsAt": (now - dt.timedelta(hours=1)).isoformat(),
        "endsAt": (now + ends_in).isoformat(),
    }
    httpx.post(url, json=[{"labels": each, **times} for each in alerts]).raise_for_status()


def find(url: str, labels: Labels) -> dict[str, list[str]]:
    for each in httpx.get(url).json():
        if each["labels"] == labels:
            found: dict[str, list[str]] = each["status"]
            return found
    return {"inhibitedBy": []}
