"""The producer's flow as a person runs it: a real Prefect server, PostgreSQL, API and broker."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter
from prefect.settings import PREFECT_API_URL
from prefect.utilities.importtools import import_object

from flows.kafka_data_ingestion import kafka_data_ingestion
from infra.local.ports import choose_port
from infra.postgres.connection import Pool
from infra.sample.api import serve_users
from infra.settings import read_settings
from schemas.errors import SettingError, TerminalError, TransientError
from tasks import steps, stream_steps
from tasks.produce_source import Outcome

# Each test has a loop of its own, and Prefect leaves its sockets to the one that is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROOT = Path(__file__).parents[2]
SALES = (
    "order_id,customer_id,product_id,order_date,quantity,unit_price\n"
    "1,1,7,2024-06-01,1,1.00\n2,2,7,2024-06-02,2,1.00\n"
)
Read = Callable[[], Awaitable[list[ConsumerRecord]]]


@pytest.fixture
def raw_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "sales_data.csv").write_text(SALES)
    (folder / "products.json").write_text('[{"product_id": 7}]')
    return folder


@pytest.fixture
def make_topic() -> Callable[..., Awaitable[str]]:
    async def make(address: str, **configs: str) -> str:
        name = f"flow-{os.urandom(4).hex()}"
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, 3, 1, topic_configs=configs)])
        finally:
            await admin.close()
        return name

    return make


@pytest.fixture
async def topic(embedded_broker, make_topic) -> str:
    name: str = await make_topic(embedded_broker.bootstrap_servers)
    return name


@pytest.fixture
def set_up(
    database, embedded_broker, topic: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., None]]:
    """Name the settings of the test's own database, topic and API."""

    def name(
        *,
        api: str = "http://127.0.0.1:9",
        kafka: str = embedded_broker.bootstrap_servers,
        kafka_topic: str = topic,
    ) -> None:
        endpoint = {"url": f"{api}/users", "dataset": "api_users", "attempts": 1}
        monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database.loader_url)
        monkeypatch.setenv("SLUICEWAY_API_ENDPOINTS", json.dumps([endpoint]))
        monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path / "logs"))
        monkeypatch.setenv("SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS", kafka)
        monkeypatch.setenv("SLUICEWAY_KAFKA_TOPIC", kafka_topic)
        monkeypatch.delenv("SLUICEWAY_DATABASE_BLOCK", raising=False)
        read_settings.cache_clear()

    name()
    yield name
    read_settings.cache_clear()


@pytest.fixture
def read(embedded_broker, topic: str) -> Read:
    """Return all that the topic holds."""

    async def read_topic() -> list[ConsumerRecord]:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=embedded_broker.bootstrap_servers,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
            found: list[ConsumerRecord] = []
            while len(found) < sum(ends.values()):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
        finally:
            await consumer.stop()
        return found

    return read_topic


@pytest.fixture
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the number of repetitions, and not the seconds between them."""
    every = (
        steps.fetch_endpoint,
        stream_steps.resend_unsent,
        stream_steps.produce_file,
        stream_steps.produce_answer,
    )
    for task in every:
        monkeypatch.setattr(task, "retry_delay_seconds", 0)


async def test_a_run_produces_api_and_files_once_and_leaves_its_history(
    raw_folder: Path, pool: Pool, set_up, read: Read, tmp_path: Path
) -> None:
    async with serve_users() as address:
        set_up(api=address)
        reports = await kafka_data_ingestion(with_csv=True, raw_folder=raw_folder)
        again = await kafka_data_ingestion(with_csv=True, raw_folder=raw_folder)
    by_table = {report.table: report for report in reports}
    assert {each.outcome for each in reports} == {Outcome.PRODUCED}
    assert {each.outcome for each in again} == {Outcome.UNCHANGED}
    users = by_table["api_users"].sent
    assert (by_table["sales_data"].sent, users > 1) == (2, True)
    found = await read()
    sources = Counter(json.loads(each.value)["source"] for each in found)
    assert sources == {"sales_data": 2, "api_users": users}
    assert {each.key for each in found} >= {b"sales_data:1", b"sales_data:2", b"api_users:1"}
    first, second = await fetch(pool, "SELECT * FROM metadata.pipeline_executions ORDER BY id")
    assert (first["status"], second["status"]) == ("SUCCESS", "SUCCESS")
    assert (first["records_processed"], second["records_processed"]) == (users + 2, 0)
    assert json.loads(first["parameters"])["with_csv"] is True
    assert [each for each in first["warnings"] if "products.json was left out" in each]
    [table] = await artifacts(first["flow_run_id"])
    rows = {row["source"]: row for row in json.loads(table.data)}
    assert rows["sales_data.csv"] == {
        "source": "sales_data.csv",
        "dataset": "sales_data",
        "outcome": "PRODUCED",
        "read": 2,
        "sent": 2,
        "refused": 0,
        "quarantined": 0,
        "remarks": "",
    }
    [log] = (tmp_path / "logs").iterdir()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [line["event"] for line in lines if line.get("source") == "sales_data.csv"]
    assert told == ["produced", "skipped"]


async def test_an_api_that_is_down_is_a_warning_and_named_files_go_on(
    raw_folder: Path, pool: Pool, set_up, read: Read, without_waiting: None
) -> None:
    files = (raw_folder / "sales_data.csv", raw_folder / "products.json")
    reports = await kafka_data_ingestion(files)
    assert [(each.table, each.outcome, each.sent) for each in reports] == [
        ("sales_data", Outcome.PRODUCED, 2),
        ("products", Outcome.PRODUCED, 1),
        ("api_users", Outcome.UNREACHABLE, 0),
    ]
    [run] = await fetch(pool, "SELECT status, warnings FROM metadata.pipeline_executions")
    assert run["status"] == "SUCCESS"
    assert [each for each in run["warnings"] if "could not be reached" in each]
    assert len(await read()) == 3


async def test_a_file_that_cannot_be_read_fails_the_run_and_keeps_no_other_out(
    raw_folder: Path, pool: Pool, set_up, read: Read
) -> None:
    missing = raw_folder / "nothing.csv"
    files = (missing, raw_folder / "sales_data.csv", raw_folder / "no" / "customers.csv")
    with pytest.raises(TerminalError, match="2 of 3 sources could not be produced whole") as error:
        await kafka_data_ingestion(files, with_api=False)
    assert f"{missing} does not exist; check the folder and the name." in str(error.value)
    assert str(error.value).endswith("The other 1 are in Kafka.")
    [run] = await fetch(pool, "SELECT status, error_message FROM metadata.pipeline_executions")
    assert (run["status"], run["error_message"]) == ("FAILED", str(error.value))
    assert len(await read()) == 2


async def test_what_kafka_refuses_for_good_fails_the_run_once_and_warns_from_then_on(
    raw_folder: Path, pool: Pool, set_up, apache_kafka, make_topic
) -> None:
    address = apache_kafka.bootstrap_servers
    set_up(kafka=address, kafka_topic=await make_topic(address, **{"max.message.bytes": "20000"}))
    # Of random letters, which no compression makes small.
    (raw_folder / "sales_data.csv").write_text(SALES + f"3,3,7,{os.urandom(30_000).hex()},1,1\n")
    with pytest.raises(TerminalError, match="1 of 1 sources could not be produced whole") as error:
        await kafka_data_ingestion(with_csv=True, raw_folder=raw_folder, with_api=False)
    assert "1 of 3 messages" in str(error.value)
    assert "kept in metadata.unsent_messages" in str(error.value)
    await kafka_data_ingestion(with_csv=True, raw_folder=raw_folder, with_api=False)
    failed, later = await fetch(
        pool, "SELECT status, warnings FROM metadata.pipeline_executions ORDER BY id"
    )
    assert (failed["status"], later["status"]) == ("FAILED", "SUCCESS")
    assert [each for each in later["warnings"] if each.startswith("1 messages wait in")]
    [kept] = await fetch(pool, "SELECT reason, message_key FROM metadata.unsent_messages")
    assert (kept["reason"], kept["message_key"]) == ("too_large", b"sales_data:3")


async def test_what_timed_out_before_is_sent_first(
    pool: Pool, set_up, read: Read, topic: str
) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            """
            INSERT INTO metadata.unsent_messages
                (execution_id, topic, source, message_key, message_value, reason, detail)
            VALUES (1, $1, 'sales_data', 'k', '{}', 'timed_out', 'It was so.')
            """,
            topic,
        )
    assert await kafka_data_ingestion(with_api=False) == []
    assert [(each.key, each.value) for each in await read()] == [(b"k", b"{}")]
    [row] = await fetch(pool, "SELECT sent_at, attempts FROM metadata.unsent_messages")
    assert (row["sent_at"] is None, row["attempts"]) == (False, 2)


async def test_without_kafka_the_run_tries_again_and_ends_in_one_sentence(
    raw_folder: Path,
    pool: Pool,
    set_up,
    prefect_lines: list[str],
    without_waiting: None,
) -> None:
    where = f"127.0.0.1:{choose_port()}"
    set_up(kafka=where)
    with pytest.raises(TransientError, match=f"Kafka at {where} cannot be reached") as error:
        await kafka_data_ingestion(with_csv=True, raw_folder=raw_folder)
    assert len([line for line in prefect_lines if "Retry 3/3" in line]) == 1
    assert not [line for line in prefect_lines if "Traceback" in line]
    [run] = await fetch(pool, "SELECT status, error_message FROM metadata.pipeline_executions")
    assert (run["status"], run["error_message"]) == ("FAILED", str(error.value))
    assert await fetch(pool, "SELECT FROM metadata.source_files") == []


async def test_without_an_address_the_flow_says_which_setting_to_make(set_up) -> None:
    set_up(kafka="")
    with pytest.raises(SettingError, match="set SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS"):
        await kafka_data_ingestion()


def test_the_deployment_runs_every_five_minutes_and_one_at_a_time() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    [entry] = [each for each in deployments if "kafka_data_ingestion" in each["entrypoint"]]
    path, _, name = entry["entrypoint"].partition(":")
    module = path.removesuffix(".py").replace("/", ".")
    assert import_object(f"{module}:{name}") is kafka_data_ingestion
    assert [each["cron"] for each in entry["schedules"]] == ["*/5 * * * *"]
    assert "concurrency_limit" not in entry  # tasks/production_lock.py is the limit
    assert entry["work_pool"]["name"] == "batch"


def test_the_command_line_explains_itself_and_ends_in_a_sentence(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if "SLUICEWAY" not in key}
    environment |= {
        "SLUICEWAY_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing",
        "SLUICEWAY_LOG_FOLDER": str(tmp_path),
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "flows.kafka_data_ingestion"]
    started = [
        subprocess.Popen(
            [*command, *given],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for given in (["--help"], ["--without-api"])
    ]
    (shown, _), (_, complaint) = [process.communicate(timeout=120) for process in started]
    explained, failed = started
    assert explained.returncode == 0
    for option in ("files", "--with-csv", "--raw-folder", "--without-api", "--force"):
        assert option in shown
    assert failed.returncode == 1
    [sentence] = complaint.splitlines()
    assert sentence.startswith("No Kafka is named: set SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS")


async def fetch(pool: Pool, query: str) -> list[Any]:
    async with pool.acquire() as connection:
        return await connection.fetch(query)


async def artifacts(flow_run_id: Any) -> list[Any]:
    async with get_client() as client:
        return await client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id={"any_": [flow_run_id]}, key={"any_": ["produced"]}
            )
        )
