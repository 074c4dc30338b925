"""Both replays as a person starts them: from Python, with a deployment's parameters, by a shell."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter
from prefect.settings import PREFECT_API_URL

from flows.replay_dead_letters import replay_dead_letters
from flows.replay_topic import replay_topic
from infra.local.embedded_broker import EmbeddedBroker
from infra.settings import read_settings
from schemas.errors import SettingError, TerminalError
from tasks.letter_outcomes import Outcome

ROOT = Path(__file__).parents[2]


def customer(number: int, name: str = "Ann") -> bytes:
    payload = {"customer_id": number, "name": name, "signup_date": "2024-01-01"}
    time = "2026-11-20T12:00:00Z"
    return json.dumps({"source": "customers", "timestamp": time, "payload": payload}).encode()


@pytest.fixture(autouse=True)
def set_up(
    database, embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database.loader_url)
    monkeypatch.setenv("SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS", embedded_broker.bootstrap_servers)
    monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path / "logs"))
    monkeypatch.delenv("SLUICEWAY_DATABASE_BLOCK", raising=False)
    read_settings.cache_clear()
    yield
    read_settings.cache_clear()


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def letters(owner: asyncpg.Connection) -> None:
    """Three letters of one reason, one of them hopeless, and one of another."""
    await owner.execute(
        """
        INSERT INTO metadata.dead_letters (consumer_group, topic, partition, message_offset,
            source, reason, detail, message_value)
        SELECT 'group', 'data-stream', 0, place, 'customers', reason, '', value
        FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS g (reason, value, place)
        """,
        ["no_contract", "no_contract", "no_contract", "invalid_json"],
        [customer(1), customer(2), customer(3, name=""), b"{"],
    )


@pytest.fixture
async def topic(embedded_broker: EmbeddedBroker) -> str:
    """A topic with three messages that no group reads."""
    name = f"archive-{uuid.uuid4()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=embedded_broker.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers)
    await producer.start()
    for value in (customer(1), customer(2), b"{"):
        await producer.send(name, value, b"key")
    await producer.stop()
    return name


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def run(*command: str, **settings: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env={
                **os.environ,
                "PREFECT_API_URL": str(PREFECT_API_URL.value()),
                "PYTHONPATH": str(ROOT),
                "COLUMNS": "200",
                **settings,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


CUSTOMERS = "SELECT array_agg(customer_id ORDER BY 1) FROM warehouse.dim_customers"


async def test_letters_are_counted_first_and_replayed_when_told_to(letters, owner) -> None:
    planned = await replay_dead_letters("no_contract")
    assert (planned.plan.letters, await owner.fetchval(CUSTOMERS)) == (3, None)
    # As a deployment hands them over.
    done = await replay_dead_letters(reason="no_*", since="2026-01-01T00:00:00", dry_run=False)
    assert done.total == {Outcome.LOADED: 2, Outcome.FAILED: 1}
    assert await owner.fetchval(CUSTOMERS) == [1, 2]
    first, second = await owner.fetch("SELECT * FROM metadata.pipeline_executions ORDER BY id")
    assert (first["status"], first["records_processed"]) == ("SUCCESS", 0)
    assert (second["status"], second["records_processed"]) == ("SUCCESS", 3)
    assert json.loads(second["parameters"])["reason"] == "no_*"
    assert await artifact(first["flow_run_id"]) == [
        {"source": "customers", "reason": "no_contract", "to replay": 3, "left alone": 0}
    ]
    [row] = await artifact(second["flow_run_id"])
    assert (row["loaded"], row["failed"]) == (2, 1)


async def test_a_topic_is_replayed_with_a_deployments_parameters(topic: str, owner) -> None:
    done = await replay_topic(from_time="2020-01-01T00:00:00", partitions=[0], topic=topic)
    assert (done.messages, done.loaded, done.dead) == (3, 2, 1)
    assert await owner.fetchval(CUSTOMERS) == [1, 2]
    again = await replay_topic(from_offset=0, topic=topic)
    assert (again.messages, again.loaded, again.dead, again.skipped) == (3, 2, 0, 1)
    [run, _] = await owner.fetch("SELECT * FROM metadata.pipeline_executions ORDER BY id")
    assert (run["pipeline_name"], run["status"], run["records_processed"]) == (
        "replay_topic",
        "SUCCESS",
        3,
    )
    [row] = await artifact(run["flow_run_id"])
    assert (row["dataset"], row["inserted"]) == ("customers", 2)


async def test_what_cannot_be_done_fails_the_run_with_a_sentence(
    owner, monkeypatch: pytest.MonkeyPatch, prefect_lines: list[str]
) -> None:
    with pytest.raises(TerminalError, match="has no topic 'nowhere'"):
        await replay_topic(from_offset=0, topic="nowhere")
    [run] = await owner.fetch("SELECT status, error_message FROM metadata.pipeline_executions")
    assert run["status"] == "FAILED"
    assert "has no topic 'nowhere'" in run["error_message"]
    monkeypatch.setenv("SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS", "")
    read_settings.cache_clear()
    with pytest.raises(SettingError, match="No Kafka is named"):
        await replay_topic(from_offset=0)
    assert not [line for line in prefect_lines if "Traceback" in line]


def test_the_commands_say_what_they_did_or_what_is_wrong(letters, topic: str, start) -> None:
    commands = [
        start("flows.replay_dead_letters", "--reason", "no_contract"),
        start("flows.replay_topic", "--from-offset", "0", "--topic", topic),
        start("flows.replay_topic", "--from-offset", "7", "--topic", topic),
        start("flows.replay_topic", "--from-time", "yesterday"),
        start("flows.replay_topic", "--help"),
        start("flows.replay_dead_letters", SLUICEWAY_DATABASE_URL=""),
    ]
    answers = [each.communicate(timeout=240) for each in commands]
    assert [each.returncode for each in commands] == [0, 0, 1, 2, 0, 1]
    (planned, _), (replayed, _), (_, past), (_, no_time), (shown, _), (_, nowhere) = answers
    assert planned.splitlines()[-1] == "3 dead letters match. --for-real replays them."
    assert "no_contract" in planned
    assert replayed.splitlines()[-1].startswith(f"Of 3 messages of {topic} 2 brought new rows")
    # On a busy machine Prefect has something to say after it.
    assert f"Offset 7 is past the end of {topic}; its partitions end: 0 at 3." in past.splitlines()
    assert no_time.splitlines()[-1].endswith(
        "'yesterday' is no time: write 2026-11-23T07:51 (in UTC), or with a zone "
        "2026-11-23T07:51+01:00"
    )
    for option in ("--from-time", "--until-offset", "--partitions", "--topic"):
        assert option in shown
    assert nowhere.splitlines()[-1].startswith("No database is named")


async def artifact(flow_run_id: Any) -> list[dict[str, Any]]:
    """Return the rows of the run's table, without their times."""
    async with get_client() as client:
        [found] = await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id={"any_": [flow_run_id]})
        )
    rows = json.loads(found.data)
    return [{name: row[name] for name in row if not name.endswith(" buried")} for row in rows]
