"""The mailer as a person starts it: for ever, once, as a trial, and to try the settings out."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from flows.send_mail import main, send_mail
from infra.settings import read_settings
from tests.conftest import Database
from tests.mail_server import MailServer, mail_server

ROOT = Path(__file__).parents[2]
PASSWORD = "s3cret-word"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MailServer]:
    with mail_server(tmp_path, user="sluiceway", password=PASSWORD) as started:
        yield started


def variables(server: MailServer, folder: Path, database_url: str = "") -> dict[str, str]:
    given = {
        "DATABASE_URL": database_url,
        "LOG_FOLDER": str(folder),
        "SMTP_HOST": server.host,
        "SMTP_PORT": str(server.port),
        "SMTP_CA_FILE": str(server.ca_file),
        "SMTP_USER": server.user,
        "SMTP_PASSWORD": server.password,
        "MAIL_TO": json.dumps(["ops@example.com"]),
    }
    return {f"SLUICEWAY_{name}": value for name, value in given.items()}


def start(folder: Path, given: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    environment = {key: value for key, value in os.environ.items() if "SLUICEWAY" not in key}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.send_mail", *arguments],
        cwd=folder,
        # Where no server is: what is started here must not need one.
        env=environment
        | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
        | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def fail_a_run(database: Database) -> None:
    connection = await asyncpg.connect(database.loader_url)
    try:
        await connection.execute(
            "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('a_pipeline')"
        )
        await connection.execute(
            "UPDATE metadata.pipeline_executions SET status = 'FAILED', end_time = now(),"
            " error_message = 'It broke.'"
        )
    finally:
        await connection.close()


async def test_it_mails_what_fails_until_it_is_told_to_end(
    database: Database, server: MailServer, tmp_path: Path
) -> None:
    given = variables(server, tmp_path, database.loader_url)
    process = start(tmp_path, given, "--every", "1")
    try:
        await fail_a_run(database)
        [mail] = server.wait_for(1, seconds=60)
    finally:
        process.send_signal(signal.SIGTERM)
        shown, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    assert mail.message["Subject"] == "[Sluiceway] a_pipeline failed"
    assert "It broke." in mail.body()
    assert (mail.was_encrypted, mail.login) == (True, "sluiceway")
    lines = "".join(path.read_text() for path in tmp_path.glob("send_mail_*.log"))
    assert "a mail was sent" in lines
    for secret in (PASSWORD, "ops@example.com"):
        assert secret not in lines + shown + complaint


@pytest.fixture
async def old_failure(database: Database) -> Database:
    """A database with an event that is due."""
    await fail_a_run(database)
    connection = await asyncpg.connect(database.owner_url)
    await connection.execute("UPDATE metadata.alert_events SET happened_at = now() - interval '1h'")
    await connection.close()
    return database


Ask = Callable[..., str]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ask]:
    """Called with variables and arguments: what the command answers."""

    def answer(given: dict[str, str], *arguments: str) -> str:
        with monkeypatch.context() as patch:
            for name in [each for each in os.environ if each.startswith("SLUICEWAY_")]:
                patch.delenv(name)
            for name, value in given.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["send_mail", *arguments])
            read_settings.cache_clear()
            try:
                main()
            except SystemExit as end:
                return f"refused: {end.code}"
            return capsys.readouterr().out

    yield answer
    read_settings.cache_clear()


def test_a_test_mail_says_in_a_sentence_whether_the_settings_are_right(
    server: MailServer, tmp_path: Path, ask: Ask
) -> None:
    given = variables(server, tmp_path)
    worked = ask(given, "--test")
    assert worked.startswith(f"The mail server 127.0.0.1:{server.port} took the test mail")
    assert "ops@example.com" in worked
    [mail] = server.received
    assert mail.message["Subject"] == "[Sluiceway] test mail"
    server.refused = {"ops@example.com"}
    assert "does not take mail for ops@example.com (550" in ask(given, "--test")
    failed = ask(given | {"SLUICEWAY_SMTP_PASSWORD": "wrong-word"}, "--test")
    assert failed.startswith("refused: The mail server")
    assert "refused the login" in failed
    assert "wrong-word" not in failed
    folder = {"SLUICEWAY_LOG_FOLDER": str(tmp_path)}
    assert "No channel is set up" in ask(folder, "--test")


def test_a_trial_prints_what_would_be_mailed_and_sends_nothing(
    old_failure: Database, server: MailServer, tmp_path: Path, ask: Ask
) -> None:
    given = variables(server, tmp_path, old_failure.loader_url)
    for _ in range(2):
        shown = ask(given, "--dry-run")
        assert "Subject: [Sluiceway] a_pipeline failed" in shown
        assert "1 mail would be made of 1 event." in shown
    assert server.received == []
    assert "1 sent" in ask(given)
    assert "0 mails would be made of 0 events." in ask(given, "--dry-run")


def test_settings_that_cannot_work_are_refused_at_the_start(
    server: MailServer, tmp_path: Path, ask: Ask
) -> None:
    given = variables(server, tmp_path)
    assert ask(given).startswith("refused: No database is named")
    named = given | {"SLUICEWAY_DATABASE_URL": "postgresql://x:y@127.0.0.1:9/z"}
    said = ask(named | {"SLUICEWAY_MAIL_TO": "[]"}, "--every", "1")
    assert said.startswith(
        "refused: SLUICEWAY_SMTP_HOST is set, and SLUICEWAY_MAIL_TO names nobody"
    )


async def test_it_is_a_flow_too(
    old_failure: Database, server: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables(server, tmp_path, old_failure.loader_url).items():
        monkeypatch.setenv(name, value)
    read_settings.cache_clear()
    try:
        outcome = await send_mail()
    finally:
        read_settings.cache_clear()
    assert outcome.sent == 1
    assert len(server.received) == 1
    connection = await asyncpg.connect(old_failure.owner_url)
    # It is no pipeline: its own end is no event, and tells nobody of anything.
    assert await connection.fetchval("SELECT count(*) FROM metadata.pipeline_executions") == 1
    await connection.close()
