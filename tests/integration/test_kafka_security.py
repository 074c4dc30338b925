"""Apache Kafka over TLS with SCRAM: who is let in, and who is believed to be the broker."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.topics import ensure_topics
from infra.local.kafka import ApacheKafka
from infra.settings import Settings
from infra.tls.authority import Authority
from schemas.errors import TransientError
from tests.tls_servers import KAFKA_PASSWORD, KAFKA_USER, kafka_over_tls


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls"))
    # Not for `localhost`, which is the same machine by another name.
    made.issue("kafka", ["127.0.0.1"])
    return made


@pytest.fixture(scope="session")
def secured_kafka(
    kafka_programs: None, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApacheKafka]:
    """A broker that speaks TLS alone, and knows one user."""
    with kafka_over_tls(tmp_path_factory.mktemp("kafka"), authority) as kafka:
        yield kafka


@pytest.fixture
def settings(secured_kafka: ApacheKafka, authority: Authority) -> Settings:
    """Settings by which the broker is reached."""
    return Settings(
        kafka_bootstrap_servers=secured_kafka.bootstrap_servers,
        kafka_security="sasl_ssl",
        kafka_ca_file=authority.certificate_file,
        kafka_user=KAFKA_USER,
        kafka_password=KAFKA_PASSWORD,
    )


async def test_who_has_the_ca_and_the_password_is_served(settings: Settings) -> None:
    made = await ensure_topics(settings)
    assert {*made} | {settings.kafka_topic} == {"data-stream", "data-stream.dlq"}
    assert await ensure_topics(settings) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kafka_password": "another"},
        {"kafka_user": "nobody"},
        {"kafka_security": "plaintext"},
        {"kafka_security": "ssl"},
        {"kafka_ca_file": None},
        {"kafka_bootstrap_servers": "localhost"},
    ],
    ids=lambda wrong: next(iter(wrong)) + "=" + str(next(iter(wrong.values()))),
)
async def test_anybody_else_is_not(settings: Settings, wrong: dict[str, Any]) -> None:
    given = dict(wrong)
    if "kafka_bootstrap_servers" in given:
        port = settings.kafka_bootstrap_servers.rpartition(":")[2]
        given["kafka_bootstrap_servers"] = f"localhost:{port}"
    if "kafka_password" in given:
        given["kafka_password"] = Settings(kafka_password=given["kafka_password"]).kafka_password
    with pytest.raises(TransientError, match="cannot be reached") as caught:
        await ensure_topics(settings.model_copy(update=given))
    assert KAFKA_PASSWORD not in str(caught.value)


async def test_another_ca_convinces_nobody(settings: Settings, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    with pytest.raises(TransientError, match="cannot be reached"):
        await ensure_topics(settings.model_copy(update={"kafka_ca_file": other.certificate_file}))


def test_the_controller_hears_nobody_without_a_certificate(
    secured_kafka: ApacheKafka, authority: Authority
) -> None:
    place = ("127.0.0.1", secured_kafka.nodes[1].controller_port)
    context = ssl.create_default_context(cafile=authority.certificate_file)
    with (
        socket.create_connection(place, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=place[0]) as secured,
        # Only the first answer tells: until then TLS 1.3 lets a client believe that it is in.
        pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"),
    ):
        secured.recv(1)
