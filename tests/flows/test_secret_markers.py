"""No secret is shown by anything: each is a marker here, and all that is said is searched."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
import structlog
from prefect_sqlalchemy import AsyncSqlAlchemyConnector

from dash_app.reader import Reader
from deployments.blocks import save_database_block
from flows.daily_etl_pipeline import daily_etl_pipeline
from flows.send_mail import send_mail
from flows.stream_processing_pipeline import stream_processing_pipeline
from infra import logs
from infra.cell_keys import read_key_ring
from infra.exporter.serve import serve_metrics
from infra.kafka.producer import Producer
from infra.kafka.topics import ensure_topics
from infra.local.kafka import ApacheKafka
from infra.local.kafka_security import Security
from infra.postgres.connection import Pool
from infra.settings import Settings, read_settings
from infra.tls.authority import Authority
from tasks import mail_problems
from tasks.database import find_database_url
from tests.flows.secret_stage import (
    Stage,
    flow_modules,
    run_process,
    served_api,
    started,
    visit_dashboard,
)
from tests.mail_server import mail_server
from tests.secret_markers import find_leaks

BLOCK = "with-a-marker"
ENDLESS = {"flows.stream_processing_pipeline"}
"""Waits for a PostgreSQL that is away."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """All that was said by an installation that worked, and by one in which nothing did."""
    with (
        started(tmp_path_factory.mktemp("secrets")) as opened,
        pytest.MonkeyPatch.context() as patch,
    ):
        # A mail is made of what happened a moment ago, and the mailer is asked once.
        patch.setattr(mail_problems, "SETTLE_SECONDS", 0.0)
        asyncio.run(_play(opened))
        yield opened


@pytest.fixture
def kafka(stage: Stage, kafka_programs: None, tmp_path: Path) -> Iterator[tuple[ApacheKafka, Path]]:
    """A broker that lets the stage's user in with another password, and the CA's file."""
    authority = Authority(tmp_path / "tls")
    authority.issue("kafka", ["127.0.0.1"])
    security = Security(
        certificate_file=authority.folder / "kafka.pem",
        key_file=authority.folder / "kafka.key",
        ca_file=authority.certificate_file,
        broker_password="of the brokers",
        users={"sluiceway": "another one"},
    )
    with ApacheKafka(tmp_path / "kafka", security=security) as running:
        yield running, authority.certificate_file


async def _play(stage: Stage) -> None:
    with mail_server(stage.folder, user="sluiceway", password="another") as mail:
        mailing = {
            "smtp_host": mail.host,
            "smtp_port": str(mail.port),
            "smtp_ca_file": str(mail.ca_file),
        }
        async with served_api(stage) as endpoints:
            with stage.settings(api_endpoints=endpoints, **mailing):
                await _work(stage)
    wrong = stage.markers["wrong_password"].password
    with stage.settings(
        database_url=stage.url("loader", password=wrong),
        reader_database_url=stage.url("reader", password=wrong),
        monitor_database_url=stage.url("monitor", password=wrong),
        owner_database_url=stage.url("owner", password=wrong),
    ):
        await _fail(stage)
    with stage.settings(database_url=stage.url("loader", port=9)):
        for module in flow_modules():
            await stage.command(module, "--help")
            await stage.command(module, "--nonsense")
            if module not in ENDLESS:
                await stage.command(module)
    await asyncio.to_thread(
        run_process,
        stage,
        "flows.daily_etl_pipeline",
        database_url=stage.url("loader", password=wrong),
    )
    await stage.database()
    await stage.prefect()
    stage.files()


async def _work(stage: Stage) -> None:
    """Everything is right but Kafka, which is away, and the mail server, which lets nobody in."""
    assert await stage.command("deployments.bootstrap", "--only", "database") == 0
    assert await stage.command("deployments.bootstrap", "--only", "database") == 0
    await stage.attempt("the daily run", daily_etl_pipeline)
    settings = read_settings()
    await save_database_block(BLOCK, settings.database_url.get_secret_value())
    url = await find_database_url(settings.model_copy(update={"database_block": BLOCK}))
    assert unquote(url) == unquote(settings.database_url.get_secret_value())
    await stage.attempt("the topics", lambda: ensure_topics(settings))
    await stage.command("flows.send_mail", "--dry-run")
    assert await stage.attempt("the mailer", send_mail) is None, stage.outputs["the mailer"]
    await stage.command("flows.send_mail", "--test")
    backup = stage.folder / "backup"
    assert await stage.command("deployments.backup", "make", str(backup)) == 0
    stage.outputs["the backup"] = backup.read_bytes()
    await stage.command("flows.check_health")
    async with serve_metrics(settings.model_copy(update={"exporter_port": 0})) as address:
        await _scrape(stage, address, "the metrics")
    visit_dashboard(stage, "the dashboard")
    await _show_objects(stage, settings)


async def _fail(stage: Stage) -> None:
    """PostgreSQL refuses each password."""
    settings = read_settings()
    await stage.attempt("a run with a wrong password", daily_etl_pipeline)
    await stage.attempt("a mailer with a wrong password", send_mail)
    await stage.command("flows.check_health")
    await stage.command("deployments.bootstrap", "--only", "database")
    await stage.command("deployments.backup", "make", str(stage.folder / "none"))
    async with serve_metrics(settings.model_copy(update={"exporter_port": 0})) as address:
        await _scrape(stage, address, "the metrics with a wrong password")
    visit_dashboard(stage, "the dashboard with a wrong password")
    reader = Reader(settings)

    async def read() -> None:
        async with reader.opened():
            await reader.fetch("SELECT 1")

    assert await stage.attempt("the dashboard's reader", read)


async def _scrape(stage: Stage, address: str, name: str) -> None:
    with stage.listening(f"{name}: its log"):
        async with httpx.AsyncClient(trust_env=False) as client:
            stage.outputs[name] = (await client.get(f"{address}/metrics")).text


async def _show_objects(stage: Stage, settings: Settings) -> None:
    pool = Pool(settings.database_url.get_secret_value())
    block = await AsyncSqlAlchemyConnector.aload(BLOCK)
    kafka = stage.markers["kafka_password"].password
    path = Path("none")
    for each in (
        settings,
        pool,
        block,
        read_key_ring(settings),
        Producer(settings),
        Security(path, path, path, broker_password=kafka, users={"sluiceway": kafka}),
        *settings.api_endpoints,
        *settings.dashboard_users.values(),
    ):
        name = f"{type(each).__name__} as text"
        dumped = getattr(each, "model_dump", dict)()
        if type(each).__name__ in {"Settings", "Endpoint"}:
            # The address of an endpoint is a plain value to pydantic, with its query.
            dumped = {**dumped, "api_endpoints": "", "url": ""}
        stage.outputs[name] = f"{each!r} {each!s} {each:} {dumped!r}"


def test_no_output_shows_a_secret(stage: Stage) -> None:
    assert find_leaks(stage.outputs, [*stage.markers.values()]) == []


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("deployments.bootstrap --only database", "created the role sluiceway_eraser"),
        ("the daily run, its error", "products.csv"),
        ("the daily run, its error", "sources could not be loaded"),
        ("a run with a wrong password, its error", "refused the login"),
        ("a run with a wrong password", "Finished in state Failed"),
        ("the topics, its error", "Kafka cannot be reached"),
        ("flows.send_mail --test", "refused"),
        ("flows.send_mail --dry-run", "Subject: "),
        ("flows.check_health", "postgres"),
        ("flows.prune_history", "cannot be reached"),
        ("flows.replay_topic --nonsense", "usage: "),
        ("flows.daily_etl_pipeline --help", "--raw-folder"),
        ("the process flows.daily_etl_pipeline", "refused the login"),
        ("the metrics", "sluiceway_"),
        ("the metrics with a wrong password", "sluiceway_"),
        ("the dashboard: the pages", "200 "),
        ("the dashboard with a wrong password: the pages", "200 "),
        ("the dashboard's reader, its error", "refused the login"),
        ("metadata.pipeline_executions", "FAILED"),
        ("metadata.pipeline_logs", "not loaded"),
        ("metadata.mail_outbox", "daily_etl_pipeline"),
        ("metadata.source_files", "products.csv"),
        ("Prefect's flow_runs", "refused the login"),
        ("Prefect's flow_runs", "raw_folder"),
        ("Prefect's logs", "daily_etl_pipeline"),
        ("Prefect's artifacts", "customers.csv"),
        ("Prefect's block_documents", BLOCK),
        ("Prefect's events", "prefect.flow-run.Failed"),
        ("PostgreSQL's log", "CREATE ROLE sluiceway_loader"),
        ("PostgreSQL's log", "password authentication failed"),
        ("Settings as text", "kafka_password=SecretStr('**********')"),
        ("AsyncSqlAlchemyConnector as text", "sluiceway_loader"),
    ],
)
def test_what_was_searched_is_what_was_meant(stage: Stage, output: str, said: str) -> None:
    assert said in stage.outputs[output]


# aiokafka leaves it to the loop to close connections that a broker refused, and the loop ends.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_login_that_kafka_refuses_shows_no_password(
    stage: Stage, kafka: tuple[ApacheKafka, Path]
) -> None:
    broker, ca_file = kafka

    async def consume() -> None:
        running = asyncio.create_task(stream_processing_pipeline())
        lines: list[Path] = []
        for _ in range(600):
            lines = [*(stage.folder / "refused").glob("stream_processing_pipeline_*.log")]
            if lines or running.done():
                break
            await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        stage.outputs["the consumer's log"] = lines[0].read_text(encoding="utf-8")

    async def act() -> None:
        settings = read_settings()
        error = await stage.attempt("the topics, refused", lambda: ensure_topics(settings))
        assert error is not None
        await stage.attempt("the consumer, refused", consume)
        await stage.command("flows.check_health")

    with stage.settings(
        kafka_bootstrap_servers=broker.bootstrap_servers,
        kafka_ca_file=str(ca_file),
        log_folder=str(stage.folder / "refused"),
    ):
        asyncio.run(act())
    gc.collect()
    assert find_leaks(stage.outputs, [*stage.markers.values()]) == []
    assert "Authentication" in stage.outputs["the consumer's log"]


def test_a_secret_that_is_shown_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same way out, with what hides secrets switched off."""

    async def leak() -> None:
        log = logs.configure_logging(
            "leak", folder=stage.folder / "leaks", settings=read_settings()
        )
        log.info("connecting", address=stage.url("loader"))
        log.info("sent", body=stage.markers["smtp_password"].password.encode().hex())

    def read() -> dict[str, str]:
        [path] = (stage.folder / "leaks").iterdir()
        text = path.read_text(encoding="utf-8")
        path.unlink()
        assert len(text.splitlines()) == 2
        return {"the log": text}

    markers = [*stage.markers.values()]
    with stage.settings():
        asyncio.run(leak())
        assert find_leaks(read(), markers) == []
        monkeypatch.setattr(logs, "redact_fields", lambda _, __, fields: fields)
        asyncio.run(leak())
        found = find_leaks(read(), markers)
    assert [each.split(" in ")[0] for each in found] == ["loader", "smtp_password"]
    structlog.reset_defaults()
