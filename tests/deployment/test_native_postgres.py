"""PostgreSQL by the command line and the files of infra/compose.yaml: over TLS alone."""

import asyncio
import signal
import ssl
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from deployments.bootstrap import bootstrap
from infra.local.ports import LOOPBACK, choose_port
from infra.local.postgres import Postgres
from infra.local.process import wait_until
from infra.postgres.connection import connect
from infra.tls.authority import Authority
from schemas.errors import SettingError
from tests.conftest import DEBIAN_BIN, skip_or_fail
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
    serial_of,
    write,
)
from tests.monitoring.servers import answers

ASKS_FOR_TLS = bytes.fromhex("0000000804d2162f")
"""PostgreSQL's question whether it speaks TLS."""
RELOAD_SECONDS = 60.0
HOST = f"postgres.{DOMAIN}"
RULES_PLACE = "/etc/sluiceway/pg_hba.conf"
DATABASES_PLACE = "/docker-entrypoint-initdb.d/databases.sql"


@dataclass(frozen=True)
class Installation:
    """The server as compose has it, and the secrets that it was made with."""

    server: Postgres
    secrets: Path
    ca_file: Path

    def address(self, name: str) -> str:
        """Return the address that a service finds in its secret."""
        return (self.secrets / name).read_text(encoding="utf-8")

    def password(self, name: str) -> str:
        return urlsplit(self.address(name)).password or ""


def read_options() -> dict[str, str]:
    """Return what the service's command line sets."""
    words = describe("postgres")["command"]
    assert words[0] == "postgres"
    assert set(words[1::2]) == {"-c"}
    return dict(each.split("=", 1) for each in words[2::2])


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    if not (DEBIAN_BIN / "postgres").exists():
        skip_or_fail("PostgreSQL 15 is not installed: run `make system-packages`")
    folder = tmp_path_factory.mktemp("compose")
    handed, port = make_certificates(folder), choose_port()
    ca_file = handed / "ca" / "ca.pem"
    secrets = make_all_secrets(folder, postgres_port=port, ca_file=ca_file)
    data = folder / "data"
    # As the image does it: a server of its own makes the databases before anybody is let in.
    with Postgres(data, bin_folder=DEBIAN_BIN, port=port) as fresh:
        statements = read_mounted("postgres", DATABASES_PLACE)
        fresh.execute(localize(statements, {SECRETS_PLACE: str(secrets)}))
    # For this address too: another process finds no names of ours.
    Authority(folder / "authority").issue("postgres", [HOST, LOOPBACK])
    for name, kind in (("certificate.pem", "pem"), ("key.pem", "key")):
        assert (handed / "postgres" / name).exists()
        write(data / "tls" / name, (folder / "authority" / f"postgres.{kind}").read_text())
    write(data / "mounted_hba.conf", read_mounted("postgres", RULES_PLACE))
    options = {
        name: value.replace(TLS_PLACE, str(data / "tls")).replace(
            RULES_PLACE, str(data / "mounted_hba.conf")
        )
        for name, value in read_options().items()
    }
    assert str(data) in options["ssl_cert_file"] + options["hba_file"]
    with Postgres(data, bin_folder=DEBIAN_BIN, settings=options, port=port) as server:
        yield Installation(server, secrets, ca_file)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_names(monkeypatch)


async def test_bootstrap_works_with_the_addresses_of_the_secrets(
    installation: Installation,
) -> None:
    roles = ("loader", "reader", "monitor", "eraser")
    urls = {"loader": "database_url"} | {each: f"{each}_database_url" for each in roles[1:]}
    passwords = {f"{role}_password": installation.password(urls[role]) for role in roles}
    await bootstrap(installation.address("owner_database_url"), **passwords)  # type: ignore[arg-type]
    for role in roles:
        connection = await connect(installation.address(urls[role]))
        try:
            said = await connection.fetchrow(
                "SELECT current_user AS name, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            )
        finally:
            await connection.close()
        assert said["name"] == f"sluiceway_{role}"
        assert said["version"] in {"TLSv1.2", "TLSv1.3"}


async def test_each_stays_in_its_own_database(installation: Installation) -> None:
    owner = urlsplit(installation.address("owner_database_url"))
    with pytest.raises(SettingError, match=r"rejects|refused|permission"):
        await connect(urlunsplit(owner._replace(path="/prefect")), wait_seconds=1)
    password = (installation.secrets / "postgres_prefect").read_text()
    location = f"prefect:{password}@{owner.hostname}:{owner.port}"
    mine = await connect(urlunsplit(owner._replace(netloc=location, path="/prefect")))
    await mine.close()
    with pytest.raises((SettingError, asyncpg.InsufficientPrivilegeError)):
        await connect(urlunsplit(owner._replace(netloc=location)), wait_seconds=1)


async def test_nobody_is_let_in_in_clear(installation: Installation) -> None:
    owner = urlsplit(installation.address("owner_database_url"))
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="no encryption"):
        await asyncpg.connect(
            host="127.0.0.1",
            port=owner.port,
            user=owner.username,
            password=owner.password,
            database="sluiceway",
            ssl="disable",
        )


async def test_the_superuser_does_not_come_by_the_network(installation: Installation) -> None:
    owner = urlsplit(installation.address("owner_database_url"))
    password = installation.server.cluster.superuser_password
    location = f"postgres:{password}@{owner.hostname}:{owner.port}"
    with pytest.raises((SettingError, asyncpg.PostgresError), match=r"reject|refused"):
        await connect(urlunsplit(owner._replace(netloc=location)), wait_seconds=1)


async def test_it_is_believed_by_its_own_name_alone(installation: Installation) -> None:
    url = installation.address("owner_database_url")
    with pytest.raises(SettingError, match="Hostname mismatch"):
        await connect(url.replace(HOST, f"db.{DOMAIN}"), wait_seconds=1)


async def _ask(installation: Installation) -> set[bool]:
    """Return whether Prefect's sessions are encrypted."""
    owner = urlsplit(installation.address("owner_database_url"))
    password = (installation.secrets / "postgres_prefect").read_text()
    location = f"prefect:{password}@{owner.hostname}:{owner.port}"
    connection = await connect(urlunsplit(owner._replace(netloc=location, path="/prefect")))
    try:
        rows = await connection.fetch(
            "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
            "WHERE usename = 'prefect' AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
    return {each["ssl"] for each in rows}


async def test_prefect_keeps_its_database_over_tls_and_asks_for_a_password(
    installation: Installation, tmp_path: Path
) -> None:
    service, port = describe("prefect"), str(choose_port())
    profile = write(
        tmp_path / "prefect_server",
        # Another process finds no names of ours; the certificate is for this address too.
        localize((installation.secrets / "prefect_server").read_text(), {HOST: LOOPBACK}),
    )
    environment = {
        name: {
            "PREFECT_PROFILES_PATH": str(profile),
            "PREFECT_HOME": str(tmp_path / "home"),
            "PREFECT_UI_STATIC_DIRECTORY": str(tmp_path / "ui"),
            "PREFECT_API_URL": f"http://{LOOPBACK}:{port}/api",
            "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_CA_FILE": str(
                installation.ca_file
            ),
        }.get(name, value)
        for name, value in service["environment"].items()
    }
    command = [
        sys.executable,
        "-m",
        *(port if each == "4200" else each for each in service["command"]),
    ]
    url = f"http://{LOOPBACK}:{port}/api"
    user, _, password = tomllib.loads((installation.secrets / "prefect_client").read_text())[
        "profiles"
    ]["sluiceway"]["PREFECT_API_AUTH_STRING"].partition(":")
    with run("prefect", command, tmp_path, environment) as server:
        came = await asyncio.to_thread(
            wait_until, lambda: answers(f"{url}/health") or not server.is_running, 120
        )
        assert came, server.read_log()
        asked = {
            "nobody": httpx.get(f"{url}/variables/name/x", trust_env=False),
            "wrong": httpx.get(f"{url}/variables/name/x", auth=(user, "no"), trust_env=False),
            "right": httpx.get(f"{url}/variables/name/x", auth=(user, password), trust_env=False),
        }
        page = httpx.get(f"http://{LOOPBACK}:{port}/", follow_redirects=True, trust_env=False)
        # The superuser is not let in to look; each role sees its own sessions.
        ways = await _ask(installation)
    assert {name: each.status_code for name, each in asked.items()} == {
        "nobody": 401,
        "wrong": 401,
        "right": 404,
    }
    assert page.is_success
    assert "<html" in page.text
    assert any((tmp_path / "ui").rglob("index.html"))
    assert ways == {True}


def test_a_renewed_certificate_is_shown_when_it_is_told(installation: Installation) -> None:
    server = installation.server
    context = ssl.create_default_context(cafile=installation.ca_file)
    before = serial_of(server.port, context, HOST, ASKS_FOR_TLS)
    authority = installation.ca_file.parents[2] / "authority"
    (authority / "postgres.pem").unlink()
    Authority(authority).issue("postgres", [HOST, LOOPBACK])
    for name, kind in (("certificate.pem", "pem"), ("key.pem", "key")):
        place = server.cluster.folder / "tls" / name
        place.write_text((authority / f"postgres.{kind}").read_text())
    server.child.send_signal(signal.SIGHUP)
    assert wait_until(
        lambda: serial_of(server.port, context, HOST, ASKS_FOR_TLS) != before, RELOAD_SECONDS
    )
