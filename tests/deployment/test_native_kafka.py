"""Apache Kafka by the script and the properties that infra/compose.yaml mounts: TLS and SCRAM."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from pydantic import SecretStr

from infra.kafka.topics import ensure_topics
from infra.local.java import find_java
from infra.local.kafka_jars import find_jars
from infra.local.kafka_node import java_command
from infra.local.ports import LOOPBACK, choose_port
from infra.local.process import wait_until
from infra.settings import Settings
from schemas.errors import TransientError
from tests.deployment.compose import DOMAIN, SECRETS_PLACE
from tests.deployment.native import (
    TLS_PLACE,
    describe,
    localize,
    make_all_secrets,
    make_certificates,
    read_mounted,
    resolve_names,
    run,
    write,
)

START_SECONDS = 120.0
PROGRAMS_PLACE = "/opt/kafka/bin"
CLASSES = {"kafka-storage.sh": "kafka.tools.StorageTool", "kafka-server-start.sh": "kafka.Kafka"}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_names(monkeypatch)


@dataclass(frozen=True)
class Broker:
    """A broker as compose starts it."""

    controller: int
    """The port that its controller listens on."""
    settings: Settings
    """As compose gives them to the keeper."""


@pytest.fixture(scope="module")
def broker(kafka_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("compose")
    handed = make_certificates(folder)
    secrets = make_all_secrets(folder, postgres_port=1, ca_file=handed / "ca" / "ca.pem")
    port = choose_port()
    controller = choose_port(avoid=[port])
    service = describe("kafka")
    # The image's programs are these classes, behind scripts that only set up Java.
    java = java_command(find_java(), find_jars(), 512)
    for name, each in CLASSES.items():
        line = " ".join(f"'{word}'" for word in [*java, each])
        write(folder / "bin" / name, f'#!/bin/sh\nexec {line} "$@"\n', 0o755)
    [shell, script] = service["entrypoint"]
    [properties] = service["command"]
    started = localize(
        read_mounted("kafka", script),
        {PROGRAMS_PLACE: str(folder / "bin"), SECRETS_PLACE: str(secrets)},
    )
    configured = localize(
        read_mounted("kafka", properties),
        {
            SECRETS_PLACE: str(secrets),
            TLS_PLACE: str(handed / "kafka"),
            "/var/lib/kafka/data": str(folder / "data"),
            "SASL_SSL://:9093": f"SASL_SSL://{LOOPBACK}:{port}",
            "CONTROLLER://127.0.0.1:9094": f"CONTROLLER://{LOOPBACK}:{controller}",
            "localhost:9094": f"localhost:{controller}",
        },
    )
    command = [
        shell,
        str(write(folder / "start.sh", started, 0o755)),
        str(write(folder / "server.properties", configured)),
    ]
    advertised = localize(service["environment"]["ADVERTISED"], {":9093": f":{port}"})
    keeper = describe("keeper")["environment"]
    with run("kafka", command, folder, {"ADVERTISED": advertised}) as child:
        came = wait_until(lambda: _listens(port) or not child.is_running, START_SECONDS)
        assert came, child.read_log()
        assert child.is_running, child.explain_end()
        yield Broker(
            controller,
            Settings(
                kafka_bootstrap_servers=localize(
                    keeper["SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS"], {":9093": f":{port}"}
                ),
                kafka_security=keeper["SLUICEWAY_KAFKA_SECURITY"],
                kafka_ca_file=handed / "ca" / "ca.pem",
                kafka_user=keeper["SLUICEWAY_KAFKA_USER"],
                kafka_password=SecretStr((secrets / "kafka_password").read_text()),
            ),
        )


@pytest.fixture
def kafka(broker: Broker) -> Settings:
    return broker.settings


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


async def test_the_platform_makes_its_topics(kafka: Settings) -> None:
    made = await ensure_topics(kafka)
    assert set(made) == {"data-stream", "data-stream.dlq"}
    assert await ensure_topics(kafka) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"kafka_password": SecretStr("another")},
        {"kafka_user": "nobody"},
        {"kafka_security": "ssl"},
        {"kafka_ca_file": None},
    ],
    ids=lambda change: str(next(iter(change.items()))),
)
async def test_nobody_else_is_let_in(kafka: Settings, change: dict[str, object]) -> None:
    with pytest.raises(TransientError, match="cannot be reached"):
        await ensure_topics(kafka.model_copy(update=change))


async def test_it_is_believed_by_its_own_name_alone(kafka: Settings) -> None:
    other = kafka.kafka_bootstrap_servers.replace("kafka.", "broker.")
    assert other.startswith(f"broker.{DOMAIN}")
    with pytest.raises(TransientError, match="cannot be reached"):
        await ensure_topics(kafka.model_copy(update={"kafka_bootstrap_servers": other}))


async def test_nobody_is_served_in_clear(kafka: Settings) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.kafka_bootstrap_servers)
    with pytest.raises(KafkaError):
        await producer.start()
    await producer.stop()


def test_its_controller_wants_a_certificate(broker: Broker) -> None:
    ca_file = broker.settings.kafka_ca_file
    assert ca_file is not None
    stranger = ssl.create_default_context(cafile=ca_file)
    known = ssl.create_default_context(cafile=ca_file)
    own = ca_file.parents[1] / "kafka"
    known.load_cert_chain(own / "certificate.pem", own / "key.pem")
    assert _is_kept(broker.controller, known)
    assert not _is_kept(broker.controller, stranger)


def _is_kept(port: int, context: ssl.SSLContext) -> bool:
    """Tell whether the connection is still there when it was asked which versions are spoken."""
    question = bytes.fromhex("0000000a 0012 0000 00000001 ffff")
    try:
        with (
            socket.create_connection((LOOPBACK, port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as peer,
        ):
            peer.sendall(question)
            return bool(peer.recv(4))
    except (ssl.SSLError, ConnectionError):
        return False
