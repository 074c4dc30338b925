"""Apache Kafka: whom the platform believes to be the broker, and whom the broker serves."""

import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from aiokafka.admin import AIOKafkaAdminClient

from infra.kafka import client as kafka_client
from infra.kafka.client import connection_options
from infra.local.java import find_java
from infra.local.kafka import ApacheKafka
from infra.local.kafka_jars import find_jars
from infra.settings import Settings
from schemas.errors import SettingError, TerminalError
from tests.security.claim import Area, Claim, FoiledError, MissingError
from tests.security.eavesdropper import FOREIGN, Listener, impostor
from tests.security.session import Session
from tests.security.tls_postgres import make_expired
from tests.tls_servers import KAFKA_PASSWORD, KAFKA_USER, kafka_over_tls

Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """A broker that speaks TLS alone, one that speaks in clear, and an impostor of the first."""

    session: Session
    broker: ApacheKafka
    open_broker: ApacheKafka
    impostor_port: int
    """Of somebody with a certificate that has expired."""

    def platform_enters(self, *, at: str = "", **changed: Any) -> Options:
        """Return how the platform's clients go about it; `changed` are settings."""
        given = {
            "kafka_bootstrap_servers": at or self.broker.bootstrap_servers,
            "kafka_security": "sasl_ssl",
            "kafka_ca_file": self.session.authority.certificate_file,
            "kafka_user": KAFKA_USER,
            "kafka_password": KAFKA_PASSWORD,
        }
        return connection_options(Settings(**(given | changed)))

    def anybody_is_believed(self, *, at: str = "") -> Options:
        """Return the same, without looking at who answers."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return self.platform_enters(at=at) | {"ssl_context": context}

    def enters_in_clear(self) -> Options:
        """Return how one goes to the broker that asks for nothing."""
        return {"bootstrap_servers": self.open_broker.bootstrap_servers}

    @property
    def by_another_name(self) -> str:
        """The broker's address, by a name that its certificate does not have."""
        return self.broker.bootstrap_servers.replace("127.0.0.1", "localhost")

    @property
    def impostor(self) -> str:
        """The impostor's address."""
        return f"127.0.0.1:{self.impostor_port}"


@asynccontextmanager
async def open_stage(session: Session) -> AsyncIterator[Stage]:
    """Start the brokers, and see that who may be served is."""
    try:
        find_jars()
        find_java()
    except TerminalError as error:
        raise MissingError(str(error)) from error
    expired = make_expired(session.authority).folder
    with (
        kafka_over_tls(session.folder / "kafka", session.authority) as broker,
        ApacheKafka(session.folder / "open-kafka") as open_broker,
    ):
        port = int(broker.bootstrap_servers.rpartition(":")[2])
        async with impostor(
            expired / "kafka.pem", expired / "kafka.key", port, session.authority.certificate_file
        ) as impostor_port:
            stage = Stage(session, broker, open_broker, impostor_port)
            await enter(stage.platform_enters())
            session.facts["Apache Kafka"] = f"{find_version()}; {describe_tls(session, port)}"
            yield stage


def find_version() -> str:
    """Return the version of Kafka's jars."""
    [jar] = find_jars().glob("kafka_2.13-*.jar")
    return jar.stem.partition("-")[2]


def describe_tls(session: Session, port: int) -> str:
    """Return version and cipher that the broker agrees to."""
    context = ssl.create_default_context(cafile=session.authority.certificate_file)
    with (
        socket.create_connection(("127.0.0.1", port)) as bare,
        context.wrap_socket(bare, server_hostname="127.0.0.1") as peer,
    ):
        cipher = peer.cipher()
    return f"{cipher[1]}, {cipher[0]}, {cipher[2]} bits" if cipher else "no TLS"


async def enter(options: Options) -> str:
    """Return what the broker lets one do; raises FoiledError with what aiokafka logged."""
    with kafka_lines() as lines:
        admin = AIOKafkaAdminClient(**(options | {"request_timeout_ms": 5000}))
        try:
            await admin.start()
            topics = await admin.list_topics()
        except Exception as error:
            raise FoiledError(" ".join(lines) or str(error)) from error
        finally:
            await admin.close()
    return f"served, and told about {len(topics)} topics"


@contextmanager
def kafka_lines() -> Iterator[list[str]]:
    """Yield what aiokafka logs meanwhile: its errors do not say why."""
    lines: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, keeper = logging.getLogger("aiokafka"), Keeper(logging.WARNING)
    before = logger.propagate
    logger.propagate = False
    logger.addHandler(keeper)
    try:
        yield lines
    finally:
        logger.removeHandler(keeper)
        logger.propagate = before


async def listen_in(local: frozenset[str]) -> str:
    """Return what is heard of a client that is sent to a foreign broker in clear.

    local: the hosts that the platform takes for this machine.
    """
    async with Listener() as listener:
        with patch.object(kafka_client, "LOOPBACK", local):
            options = connection_options(
                Settings(kafka_bootstrap_servers=f"{FOREIGN}:{listener.port}")
            )
        with kafka_lines():
            admin = AIOKafkaAdminClient(**(options | {"request_timeout_ms": 500}))
            try:
                await admin.start()
            except kafka_client.UNREACHABLE:
                if not listener.heard:
                    raise
            finally:
                await admin.close()
    return f"heard {len(listener.heard)} bytes in clear"


CLAIMS = (
    Claim(
        "wrong-ca",
        "a broker with a certificate of another CA answers",
        enter,
        lambda stage: stage.platform_enters(
            kafka_ca_file=stage.session.other_authority.certificate_file
        ),
        lambda stage: stage.anybody_is_believed(),
        saying="unable to get local issuer certificate",
    ),
    Claim(
        "wrong-host",
        "a broker with a certificate for another host answers",
        enter,
        lambda stage: stage.platform_enters(at=stage.by_another_name),
        lambda stage: stage.anybody_is_believed(at=stage.by_another_name),
        saying="Hostname mismatch",
    ),
    Claim(
        "expired-certificate",
        "somebody with a certificate that ended yesterday passes all on to the broker",
        enter,
        lambda stage: stage.platform_enters(at=stage.impostor),
        lambda stage: stage.anybody_is_believed(at=stage.impostor),
        saying="certificate has expired",
    ),
    Claim(
        "plaintext",
        "a client speaks without TLS",
        enter,
        lambda stage: stage.platform_enters(kafka_security="plaintext"),
        lambda stage: stage.enters_in_clear(),
        saying="closed",
    ),
    Claim(
        "no-login",
        "a client speaks TLS and does not log in",
        enter,
        lambda stage: stage.platform_enters(kafka_security="ssl"),
        lambda stage: stage.enters_in_clear(),
        saying="closed",
    ),
    Claim(
        "wrong-password",
        "a client logs in with a wrong password",
        enter,
        lambda stage: stage.platform_enters(kafka_password="guessed"),
        lambda stage: stage.enters_in_clear(),
        saying="SaslAuthenticationFailed",
    ),
    Claim(
        "no-clear-text-abroad",
        "the settings name a broker on another host, without TLS",
        listen_in,
        lambda _: kafka_client.LOOPBACK,
        lambda _: kafka_client.LOOPBACK | {FOREIGN},
        SettingError,
        "would be spoken to in clear",
    ),
)
AREA = Area("tls_kafka", "Apache Kafka over TLS", open_stage, CLAIMS)
