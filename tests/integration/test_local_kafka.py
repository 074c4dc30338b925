"""Apache Kafka itself: nothing it acknowledged is lost to a kill, and three nodes outlive one."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.kafka import ApacheKafka
from infra.local.kafka_probe import list_brokers
from infra.local.orphans import find_marked
from infra.local.ports import LOOPBACK, is_free
from infra.local.process import wait_until
from schemas.errors import TerminalError

MANY = [f"message {number}".encode() for number in range(2000)]


@pytest.fixture
def folder(kafka_programs: None, tmp_path: Path) -> Path:
    return tmp_path / "kafka"


@pytest.fixture
def kafka(folder: Path) -> Iterator[ApacheKafka]:
    with ApacheKafka(folder) as started:
        yield started


async def test_what_is_sent_is_read(apache_kafka: ApacheKafka, messages) -> None:
    client = messages(apache_kafka.bootstrap_servers)
    await client.create("round-trip", partitions=3)
    await client.send("round-trip", MANY)
    assert sorted(await client.read("round-trip")) == sorted(MANY)


async def test_what_was_acknowledged_survives_kill_stop_and_freeze(
    kafka: ApacheKafka, messages
) -> None:
    client = messages(kafka.bootstrap_servers)
    port = kafka.nodes[1].port
    await client.create("kept")
    await client.send("kept", MANY)
    kafka.kill()
    assert not kafka.is_running
    assert is_free(port)
    kafka.start_node()
    assert await client.read("kept") == MANY

    kafka.freeze()
    assert list_brokers(port) == frozenset()
    assert not is_free(port)
    kafka.thaw()
    kafka.wait_until_ready()
    await client.send("kept", [b"after the freeze"])

    second = ApacheKafka(kafka.folder)
    with pytest.raises(TerminalError, match=f"already runs on {kafka.folder}: stop it first"):
        second.start()
    kafka.restart()
    assert kafka.bootstrap_servers == client.bootstrap_servers
    assert await client.read("kept") == [*MANY, b"after the freeze"]
    kafka.stop()
    assert find_marked(str(kafka.folder)) == []
    three = ApacheKafka(kafka.folder, nodes=3)
    with pytest.raises(TerminalError, match=r"holds an Apache Kafka of 1 node\(s\), not of 3"):
        three.start()


async def test_three_nodes_lose_nothing_with_one_killed_or_frozen(folder: Path, messages) -> None:
    with ApacheKafka(folder, nodes=3) as kafka:
        client = messages(kafka.bootstrap_servers)
        await client.create("kept", partitions=3, replicas=3)
        sent = await client.send("kept", MANY)
        kafka.kill(2)
        sent += await client.send("kept", [b"one killed " + value for value in MANY])
        kafka.start_node(2)
        assert list_brokers(kafka.nodes[2].port) == {1, 2, 3}
        kafka.freeze(3)
        sent += await client.send("kept", [b"one frozen " + value for value in MANY])
        kafka.thaw(3)
        assert sorted(await client.read("kept")) == sorted(sent)


def run_script(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "infra.local.kafka", "--folder", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_script_stays_until_asked_to_end_and_comes_back_after_a_kill(folder: Path) -> None:
    with run_script(folder) as killed:
        assert killed.stdout is not None
        line = killed.stdout.readline()
        port = int(line.rpartition(":")[2])
        assert line == f"Apache Kafka takes requests at 127.0.0.1:{port}\n"
        assert list_brokers(port) == {1}
        killed.kill()
        killed.communicate(timeout=60)
    with run_script(folder) as asked:
        assert asked.stdout is not None
        assert asked.stdout.readline() == line
        assert len(find_marked(str(folder))) == 1
        asked.send_signal(signal.SIGTERM)
        output, errors = asked.communicate(timeout=60)
    assert (asked.returncode, errors) == (0, "")
    assert output.endswith("Stopped.\n")
    assert find_marked(str(folder)) == []


def test_the_script_interrupted_in_mid_start_leaves_no_process(folder: Path) -> None:
    with run_script(folder) as script:
        launched = folder / "run" / "kafka-1.json"
        assert wait_until(lambda: launched.exists() or script.poll() is not None, 60)
        script.send_signal(signal.SIGINT)
        output, errors = script.communicate(timeout=60)
    assert script.returncode == 130
    assert output + errors == "Stopped.\n"
    assert find_marked(str(folder)) == []


def test_a_wrong_property_ends_the_start_with_what_kafka_said(folder: Path) -> None:
    kafka = ApacheKafka(folder, properties={"num.partitions": "plenty"})
    with pytest.raises(TerminalError, match=r"plenty .*num\.partitions"):
        kafka.start()
    assert find_marked(str(folder)) == []


def test_a_number_of_nodes_that_is_none_of_ours_is_refused(folder: Path) -> None:
    with pytest.raises(TerminalError, match="has 1 node or 3, not 2"):
        ApacheKafka(folder, nodes=2)


@pytest.mark.parametrize("answer", [b"", b"\x00\x00\x00\x20half", b"\x00\x00\x00\x02no"])
def test_what_answers_like_no_broker_is_none(answer: bytes) -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", PROBE, str(port)], stdout=subprocess.PIPE, text=True
        )
        with process:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)
            output, _ = process.communicate(timeout=30)
    assert output.strip() == "frozenset()"


PROBE = (
    "import sys; from infra.local.kafka_probe import list_brokers as f; print(f(int(sys.argv[1])))"
)


def test_nobody_at_the_port_is_no_broker() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
    assert wait_until(lambda: is_free(port), 5)
    assert list_brokers(port) == frozenset()
