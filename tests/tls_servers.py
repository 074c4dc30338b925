"""PostgreSQL and Apache Kafka that speak TLS alone, with certificates of a test's own CA."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from infra.local.kafka import ApacheKafka
from infra.local.kafka_security import Security
from infra.local.postgres import Postgres
from infra.tls.authority import Authority
from tests.conftest import DEBIAN_BIN, FAST

HOST_RULES = "hostssl all all all scram-sha-256\n"
KAFKA_USER = "sluiceway"
KAFKA_PASSWORD = "only for tests"


@contextmanager
def postgres_over_tls(
    data: Path,
    authority: Authority,
    *,
    databases: Sequence[str] = ("platform",),
    rules: str = HOST_RULES,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Postgres]:
    """Yield Debian's PostgreSQL with these databases, and the authority's certificate `postgres`.

    rules: its pg_hba.conf.
    """
    given = {**FAST, **(settings or {})}
    with Postgres(data, bin_folder=DEBIAN_BIN, settings=given) as plain:
        for name in databases:
            plain.ensure_database(name)
    secured = {
        **given,
        "ssl": "on",
        "ssl_cert_file": "server.pem",
        "ssl_key_file": "server.key",
        "hba_file": str(data / "secured_hba.conf"),
    }
    for name, content in (
        ("server.pem", (authority.folder / "postgres.pem").read_text()),
        ("server.key", (authority.folder / "postgres.key").read_text()),
        ("secured_hba.conf", rules),
    ):
        (data / name).write_text(content)
        (data / name).chmod(0o600)
    with Postgres(data, bin_folder=DEBIAN_BIN, settings=secured) as postgres:
        yield postgres


def verified_address(
    server: Postgres,
    ca: Path,
    *,
    host: str = "127.0.0.1",
    database: str = "platform",
    **login: str,
) -> str:
    """Return the database's address by which the server's certificate is checked.

    login: `user` and `password`, by default the superuser's.
    """
    parts = urlsplit(server.url(database, **login))
    location = parts.netloc.replace("127.0.0.1", host)
    query = f"sslmode=verify-full&sslrootcert={ca}"
    return urlunsplit(parts._replace(netloc=location, query=query))


@contextmanager
def kafka_over_tls(folder: Path, authority: Authority) -> Iterator[ApacheKafka]:
    """Yield a broker with the authority's certificate `kafka`, which knows KAFKA_USER alone."""
    security = Security(
        certificate_file=authority.folder / "kafka.pem",
        key_file=authority.folder / "kafka.key",
        ca_file=authority.certificate_file,
        broker_password="of the brokers",
        users={KAFKA_USER: KAFKA_PASSWORD},
    )
    with ApacheKafka(folder, security=security) as kafka:
        yield kafka
