"""The embedded broker: what it takes it keeps, as long as it is stopped and not killed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import embedded_broker as module
from infra.local.embedded_broker import EmbeddedBroker
from infra.local.folder import StateFolder
from infra.local.kafka_probe import list_brokers
from infra.local.orphans import find_marked
from infra.local.ports import choose_port, is_free
from infra.local.process import wait_until
from infra.local.stack import Stack
from schemas.errors import TerminalError

MANY = [f"message {number}".encode() for number in range(2000)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "broker") as started:
        yield started


async def test_messages_are_still_there_after_a_stop(broker: EmbeddedBroker, messages) -> None:
    client = messages(broker.bootstrap_servers)
    await client.create("kept", partitions=3)
    await client.send("kept", MANY)
    broker.stop()
    assert not broker.is_running
    assert is_free(broker.port)
    broker.start()
    assert broker.bootstrap_servers == client.bootstrap_servers
    assert sorted(await client.read("kept")) == sorted(MANY)


async def test_a_kill_leaves_a_folder_it_can_start_on(broker: EmbeddedBroker, messages) -> None:
    client = messages(broker.bootstrap_servers)
    await client.create("before")
    await client.send("before", MANY)
    broker.restart()
    await client.send("before", [b"perhaps lost"])
    broker.kill()
    assert list_brokers(broker.port) == frozenset()
    broker.start()
    assert (await client.read("before"))[: len(MANY)] == MANY


def test_a_port_that_was_taken_meanwhile_is_given_up_for_another(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    with EmbeddedBroker(tmp_path / "other", port=broker.port) as second:
        assert second.port != broker.port
        assert list_brokers(second.port)


def test_a_folder_in_use_is_refused_with_the_brokers_word(broker: EmbeddedBroker) -> None:
    second = EmbeddedBroker(broker.data_folder, log=broker.data_folder.parent / "second.log")
    with pytest.raises(TerminalError, match=f"already running for {broker.data_folder}"):
        second.start()
    assert list_brokers(broker.port)


async def test_a_stack_keeps_its_brokers_address_and_ends_it(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / ".sluiceway")
    folder.make()
    addresses = set()
    for _ in range(2):
        stack = Stack(folder, tmp_path)
        await stack.start_broker()
        addresses.add(stack.broker.bootstrap_servers)
        assert list_brokers(stack.broker.port)
        assert [each.pid for each in find_marked(folder.mark)] == [stack.broker.child.pid]
        stack.stop()
        assert find_marked(folder.mark) == []
    assert len(addresses) == 1


def test_as_a_command_it_becomes_the_broker_and_ends_when_asked(tmp_path: Path) -> None:
    port = choose_port()
    command = [sys.executable, "-m", "infra.local.embedded_broker", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--folder", str(tmp_path / "made")], stderr=subprocess.PIPE
    ) as process:
        assert wait_until(lambda: bool(list_brokers(port)) or process.poll() is not None, 30)
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert (tmp_path / "made" / "kafka.json").exists()
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    refused = subprocess.run(
        [*command, "--folder", str(in_the_way)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert refused.returncode == 1
    assert f"The embedded broker cannot run in {in_the_way}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_without_the_package_it_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    with pytest.raises(TerminalError, match="noida-db is not installed: install the extra 'local'"):
        EmbeddedBroker(tmp_path / "broker").start()
