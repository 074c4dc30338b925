"""A failure reaches a mailbox by both paths: by Prometheus and Alertmanager, and by the outbox."""

import asyncio
import subprocess
import sys

import asyncpg

from infra.local.environment import inherit_environment
from infra.local.process import wait_until
from tests.mail_server import Received
from tests.monitoring.conftest import RECIPIENT, Stage
from tests.monitoring.history import DAILY
from tests.monitoring.servers import CHECKOUT, WAIT_SECONDS


def test_an_alert_reaches_a_mail_server_with_starttls_and_login(stage: Stage) -> None:
    def find() -> list[Received]:
        return [each for each in stage.mail.received if "PipelineFailed" in each.message["Subject"]]

    assert wait_until(lambda: bool(find()), WAIT_SECONDS), [
        each.message["Subject"] for each in stage.mail.received
    ]
    # One mail about all pipelines of that alert, and no other before it is sent again in a day.
    [mail] = find()
    assert mail.message["Subject"].startswith("[Sluiceway] WARNING: PipelineFailed")
    assert mail.was_encrypted
    assert (mail.login, mail.recipients) == ("sluiceway", (RECIPIENT,))
    for kind in ("plain", "html"):
        text = mail.body(kind)
        assert f"The last run of {DAILY} failed" in text
        assert "docs/operations.md#pipelinefailed" in text
        assert "Ada" not in text


def test_a_run_that_failed_reaches_it_by_the_outbox(stage: Stage) -> None:
    assert stage.said
    settings = stage.settings
    done = subprocess.run(
        [sys.executable, "-m", "flows.send_mail"],
        cwd=CHECKOUT,
        env=inherit_environment(str(stage.folder))
        | {
            "SLUICEWAY_DATABASE_URL": stage.database.loader_url,
            "SLUICEWAY_LOG_FOLDER": str(stage.folder / "logs"),
            "SLUICEWAY_SMTP_HOST": settings.smtp_host,
            "SLUICEWAY_SMTP_PORT": str(settings.smtp_port),
            "SLUICEWAY_SMTP_USER": settings.smtp_user,
            "SLUICEWAY_SMTP_PASSWORD": settings.smtp_password.get_secret_value(),
            "SLUICEWAY_SMTP_CA_FILE": str(settings.smtp_ca_file),
            "SLUICEWAY_MAIL_TO": f'["{RECIPIENT}"]',
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [mail] = [each for each in stage.mail.received if stage.said[:60] in each.body()]
    assert DAILY in mail.message["Subject"]
    assert mail.was_encrypted
    assert (mail.login, mail.recipients) == ("sluiceway", (RECIPIENT,))
    assert asyncio.run(count_unsent(stage.database.loader_url)) == 0


async def count_unsent(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM metadata.mail_outbox WHERE sent_at IS NULL"
        )
    finally:
        await connection.close()
    return found
