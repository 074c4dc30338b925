"""Makes every password, key and address of an installation, once: `python -m deployments.secrets`.

    python -m deployments.secrets FOLDER --domain data.example --containers

Each secret is a file of its own, readable by one user alone. What is there already is never
changed, so the command may be run again after an upgrade that needs one more. With --containers
(as root) each file is handed to the user of the container that reads it; without, all stay with
who runs the command, as systemd's LoadCredential= wants it. Passwords that only others know, as
the mail server's, are left empty for a person to fill in.
"""

import argparse
import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from infra.cell_keys import make_key
from infra.local.folder import PRIVATE_FOLDER, write_privately
from infra.postgres.apply import ERASER, LOADER, MONITOR
from infra.postgres.rights import READER
from infra.tls.authority import check_host
from schemas.errors import SettingError, SluicewayError

CONTAINER_USERS: Mapping[str, int] = {
    "platform": 10001,
    "postgres": 999,
    "kafka": 1000,
    "proxy": 101,
    "grafana": 472,
}
"""The numbers under which the images of infra/compose.yaml run, group and user alike."""
DOMAIN = "sluiceway.internal"
CA_FILE = "/etc/sluiceway/tls/ca.pem"
OWNER = "sluiceway_owner"
DATABASE = "sluiceway"
PREFECT = "prefect"
DASHBOARD_USER = "operator"
KAFKA_USER = "sluiceway"
KAFKA_BROKER = "broker"
_SCRAM_ROUNDS = 8192
_FOLDER_OTHERS_PASS = 0o711
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Places:
    """Where services are found."""

    postgres: str
    """host:port."""
    ca_file: str
    """Where the CA's certificate stands for whoever opens an address."""


@dataclass(frozen=True, slots=True)
class Secret:
    """One file: whose it is, what it is made from, and how."""

    reader: str
    """A key of CONTAINER_USERS."""
    make: Callable[[Mapping[str, str], Places], str]
    parts: tuple[str, ...] = ()
    """Other secrets that `make` is given, by name."""


def _random(_parts: Mapping[str, str], _places: Places) -> str:
    return secrets.token_urlsafe(32)


def _fernet_key(_parts: Mapping[str, str], _places: Places) -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _backup_key(_parts: Mapping[str, str], _places: Places) -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _personal_key(_parts: Mapping[str, str], _places: Places) -> str:
    return make_key()


def _empty(_parts: Mapping[str, str], _places: Places) -> str:
    return ""


def _cluster(_parts: Mapping[str, str], _places: Places) -> str:
    # A UUID as Kafka writes it; its tools take a leading - for an option.
    fresh = "-"
    while fresh.startswith("-"):
        fresh = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return fresh


def _address(role: str) -> Callable[[Mapping[str, str], Places], str]:
    def make(parts: Mapping[str, str], places: Places) -> str:
        password = next(iter(parts.values()), None) or secrets.token_urlsafe(32)
        query = urlencode({"sslmode": "verify-full", "sslrootcert": places.ca_file}, safe="/")
        return (
            f"postgresql://{role}:{quote(password, safe='')}@{places.postgres}/{DATABASE}?{query}"
        )

    return make


def _prefect_client(parts: Mapping[str, str], _places: Places) -> str:
    return _profile({"PREFECT_API_AUTH_STRING": f"sluiceway:{parts['prefect_password']}"})


def _prefect_server(parts: Mapping[str, str], places: Places) -> str:
    database = f"{PREFECT}:{quote(parts['postgres_prefect'], safe='')}@{places.postgres}/{PREFECT}"
    return _profile(
        {
            "PREFECT_SERVER_API_AUTH_STRING": f"sluiceway:{parts['prefect_password']}",
            "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}",
            "PREFECT_SERVER_ENCRYPTION_KEY": parts["prefect_key"],
        }
    )


def _profile(values: Mapping[str, str]) -> str:
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(['active = "sluiceway"', "", "[profiles.sluiceway]", *lines, ""])


def _kafka_users(parts: Mapping[str, str], _places: Places) -> str:
    users = {KAFKA_BROKER: parts["kafka_broker_password"], KAFKA_USER: parts["kafka_password"]}
    return "".join(f"{_scram(name, password)}\n" for name, password in users.items())


def _scram(name: str, password: str) -> str:
    """Return what Kafka's storage is formatted with, so that no command line shows a password."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _SCRAM_ROUNDS)
    fields = {
        "name": name,
        "iterations": str(_SCRAM_ROUNDS),
        "salt": f'"{base64.b64encode(salt).decode()}"',
        "saltedpassword": f'"{base64.b64encode(salted).decode()}"',
    }
    return f"SCRAM-SHA-512=[{','.join(f'{key}={value}' for key, value in fields.items())}]"


def _kafka_login(parts: Mapping[str, str], _places: Places) -> str:
    password = parts["kafka_broker_password"]
    return (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="{KAFKA_BROKER}" password="{password}";'
    )


def _dashboard_users(parts: Mapping[str, str], _places: Places) -> str:
    # By its command: the dashboard imports nothing of this package, nor this package the dashboard.
    done = subprocess.run(
        [sys.executable, "-m", "dash_app.access.passwords"],
        input=f"{parts['dashboard_password']}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    entry = {"password_hash": done.stdout.strip(), "role": "operator"}
    return json.dumps({DASHBOARD_USER: entry})


SECRETS: Mapping[str, Secret] = {
    "postgres_superuser": Secret("postgres", _random),
    "postgres_owner": Secret("postgres", _random),
    "postgres_prefect": Secret("postgres", _random),
    "owner_database_url": Secret("platform", _address(OWNER), ("postgres_owner",)),
    "database_url": Secret("platform", _address(LOADER)),
    "reader_database_url": Secret("platform", _address(READER)),
    "monitor_database_url": Secret("platform", _address(MONITOR)),
    "eraser_database_url": Secret("platform", _address(ERASER)),
    "cell_keys": Secret("platform", _personal_key),
    "index_keys": Secret("platform", _personal_key),
    "backup_key": Secret("platform", _backup_key),
    "kafka_cluster": Secret("kafka", _cluster),
    "kafka_broker_password": Secret("kafka", _random),
    "kafka_password": Secret("platform", _random),
    "kafka_users": Secret("kafka", _kafka_users, ("kafka_broker_password", "kafka_password")),
    "kafka_login": Secret("kafka", _kafka_login, ("kafka_broker_password",)),
    "prefect_key": Secret("platform", _fernet_key),
    "prefect_password": Secret("platform", _random),
    "prefect_server": Secret(
        "platform", _prefect_server, ("prefect_key", "prefect_password", "postgres_prefect")
    ),
    "prefect_client": Secret("platform", _prefect_client, ("prefect_password",)),
    "dashboard_secret": Secret("platform", _random),
    "dashboard_password": Secret("platform", _random),
    "dashboard_users": Secret("platform", _dashboard_users, ("dashboard_password",)),
    "grafana_password": Secret("grafana", _random),
    "smtp_password": Secret("platform", _empty),
}
"""Every file of the folder, each after what it is made from."""


def make_secrets(folder: Path, places: Places, *, for_containers: bool = False) -> list[str]:
    """Leave every secret in the folder, and return the names of those that were made now.

    for_containers: hand each to its container's user, which needs root.
    Raises SettingError, and makes nothing, where a secret is missing that others were made from.
    """
    if for_containers and os.geteuid() != 0:
        raise SettingError(
            "Only root can hand files to the containers' users: run it by sudo, or without "
            "--containers for services that systemd starts."
        )
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    missing = [name for name in SECRETS if not (folder / name).exists()]
    for name, secret in SECRETS.items():
        lost = [part for part in secret.parts if part in missing]
        if lost and name not in missing:
            raise SettingError(
                f"{folder / lost[0]} is gone, and {name} beside it was made from it: restore it "
                "from your backup of the folder."
            )
    for name in missing:
        secret = SECRETS[name]
        parts = {part: _read(folder / part) for part in secret.parts}
        write_privately(folder / name, secret.make(parts, places))
    if for_containers:
        # Others may pass, and see no name; each file has one reader.
        folder.chmod(_FOLDER_OTHERS_PASS)
        for name, secret in SECRETS.items():
            number = CONTAINER_USERS[secret.reader]
            os.chown(folder / name, number, number)
    return missing


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _check(places: Places) -> None:
    """Raise SettingError where PostgreSQL's place is no host:port."""
    host, _, port = places.postgres.rpartition(":")
    if not (port.isdecimal() and 0 < int(port) <= _LAST_PORT):
        raise SettingError(f"'{places.postgres}' is no host:port: write it as db.example:5432.")
    check_host(host.strip("[]"))


def main() -> None:
    """Make what is missing and say where it is; exits with a sentence when it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.secrets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--domain", default=DOMAIN, help=f"of the services (default: {DOMAIN})")
    parser.add_argument(
        "--postgres", metavar="HOST:PORT", help="by default postgres.DOMAIN:5432, as in containers"
    )
    parser.add_argument(
        "--ca-file", default=CA_FILE, help=f"of PostgreSQL's certificate (default: {CA_FILE})"
    )
    parser.add_argument("--containers", action="store_true", help="hand each to its container")
    given = parser.parse_args()
    places = Places(given.postgres or f"postgres.{given.domain}:5432", given.ca_file)
    try:
        _check(places)
        made = make_secrets(given.folder, places, for_containers=given.containers)
    except SluicewayError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{given.folder} cannot be used ({error}): name a folder that you may write.")
    said = f"Secrets made now: {len(made)}" if made else "No secret was missing"
    sys.stdout.write(
        f"{said} in {given.folder}. Keep a copy where the database is not: without cell_keys and "
        "index_keys personal data is lost, without backup_key every backup.\n"
        f"The dashboard's user is {DASHBOARD_USER}, its password stands in "
        f"{given.folder / 'dashboard_password'}; Prefect's is in prefect_password.\n"
    )


if __name__ == "__main__":
    main()
