"""An installation's secrets: made once, readable by one user, and in agreement with each other."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from dash_app.access.accounts import read_accounts
from dash_app.access.passwords import PasswordHash
from deployments.secrets import CONTAINER_USERS, SECRETS, Places, make_secrets
from infra.cell_keys import read_key_ring
from infra.sealed_file import read_key
from infra.settings import Settings
from schemas.errors import SettingError

PLACES = Places("db.example:5433", "/etc/sluiceway/tls/ca.pem")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets") / "secrets"
    assert make_secrets(folder, PLACES) == list(SECRETS)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "secrets"))


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_each_is_a_file_of_its_owner_alone(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == SECRETS.keys()
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o600}
    assert made.stat().st_mode & 0o777 == 0o700


def test_no_two_are_the_same(made: Path, tmp_path: Path) -> None:
    first = [each for each in read(made).values() if each]
    assert len(set(first)) == len(first) == len(SECRETS) - 1
    make_secrets(tmp_path / "other", PLACES)
    assert not set(first) & set(read(tmp_path / "other").values())


def test_what_is_there_is_never_changed(folder: Path) -> None:
    before = read(folder)
    assert make_secrets(folder, Places("another.example:1", "/other.pem")) == []
    assert read(folder) == before


def test_what_is_missing_is_made_alone(folder: Path) -> None:
    before = read(folder)
    (folder / "backup_key").unlink()
    (folder / "reader_database_url").unlink()
    assert make_secrets(folder, PLACES) == ["reader_database_url", "backup_key"]
    after = read(folder)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"backup_key", "reader_database_url"}


def test_what_others_were_made_from_is_not_made_anew(folder: Path) -> None:
    (folder / "kafka_password").unlink()
    (folder / "backup_key").unlink()
    with pytest.raises(SettingError, match="kafka_password is gone, and kafka_users beside it"):
        make_secrets(folder, PLACES)
    assert not (folder / "backup_key").exists()


def test_each_is_listed_after_what_it_is_made_from() -> None:
    seen: set[str] = set()
    for name, secret in SECRETS.items():
        assert set(secret.parts) <= seen
        assert secret.reader in CONTAINER_USERS
        seen.add(name)


def test_addresses_insist_on_tls_and_agree_with_the_server(made: Path) -> None:
    secrets = read(made)
    roles = {}
    for name in (each for each in secrets if each.endswith("database_url")):
        parts = urlsplit(secrets[name])
        assert (parts.hostname, parts.port, parts.path) == ("db.example", 5433, "/sluiceway")
        assert parse_qs(parts.query) == {
            "sslmode": ["verify-full"],
            "sslrootcert": [PLACES.ca_file],
        }
        roles[name] = parts.username
    assert roles == {
        "owner_database_url": "sluiceway_owner",
        "database_url": "sluiceway_loader",
        "reader_database_url": "sluiceway_reader",
        "monitor_database_url": "sluiceway_monitor",
        "eraser_database_url": "sluiceway_eraser",
    }
    assert urlsplit(secrets["owner_database_url"]).password == secrets["postgres_owner"]


def test_prefects_two_sides_agree(made: Path) -> None:
    secrets = read(made)
    server, client = (
        tomllib.loads(secrets[name])["profiles"]["sluiceway"]
        for name in ("prefect_server", "prefect_client")
    )
    login = f"sluiceway:{secrets['prefect_password']}"
    assert server["PREFECT_SERVER_API_AUTH_STRING"] == client["PREFECT_API_AUTH_STRING"] == login
    database = urlsplit(server["PREFECT_API_DATABASE_CONNECTION_URL"])
    assert (database.username, database.password) == ("prefect", secrets["postgres_prefect"])
    assert (database.scheme, database.path) == ("postgresql+asyncpg", "/prefect")
    assert server["PREFECT_SERVER_ENCRYPTION_KEY"] == secrets["prefect_key"]
    assert len(base64.urlsafe_b64decode(secrets["prefect_key"])) == 32
    assert secrets["postgres_prefect"] not in secrets["prefect_client"]
    assert secrets["prefect_key"] not in secrets["prefect_client"]


def test_kafkas_users_are_known_by_what_follows_from_their_passwords(made: Path) -> None:
    secrets = read(made)
    lines = secrets["kafka_users"].splitlines()
    known = {}
    for line in lines:
        found = re.fullmatch(
            r'SCRAM-SHA-512=\[name=(\w+),iterations=(\d+),salt="(.+)",saltedpassword="(.+)"\]', line
        )
        assert found
        known[found[1]] = (int(found[2]), found[3], found[4])
    for user, name in (("broker", "kafka_broker_password"), ("sluiceway", "kafka_password")):
        rounds, salt, salted = known.pop(user)
        derived = hashlib.pbkdf2_hmac(
            "sha512", secrets[name].encode(), base64.b64decode(salt), rounds
        )
        assert derived == base64.b64decode(salted)
        assert rounds >= 4096
        assert secrets[name] not in secrets["kafka_users"]
    assert not known
    assert f'password="{secrets["kafka_broker_password"]}"' in secrets["kafka_login"]


def test_the_platform_takes_them_as_its_settings(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        if name in Settings.model_fields:
            monkeypatch.delenv(f"SLUICEWAY_{name}".upper(), raising=False)
            monkeypatch.setenv(f"SLUICEWAY_{name}_FILE".upper(), str(made / name))
    settings = Settings()
    secrets = read(made)
    assert settings.database_url.get_secret_value() == secrets["database_url"]
    assert settings.kafka_password.get_secret_value() == secrets["kafka_password"]
    assert settings.smtp_password.get_secret_value() == ""
    assert len(read_key_ring(settings).current_id) == 4
    assert len(read_key(settings.backup_key.get_secret_value(), "SLUICEWAY_BACKUP_KEY")) == 32
    [(name, account)] = read_accounts(settings).items()
    assert (name, account.user.role.value) == ("operator", "operator")
    assert account.password.fits(secrets["dashboard_password"])


def test_the_dashboards_password_is_not_in_its_settings(made: Path) -> None:
    secrets = read(made)
    [entry] = json.loads(secrets["dashboard_users"]).values()
    assert PasswordHash.parse(entry["password_hash"]).fits(secrets["dashboard_password"])
    assert secrets["dashboard_password"] not in secrets["dashboard_users"]


def test_only_root_hands_them_to_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SettingError, match="Only root can hand files"):
        make_secrets(tmp_path / "secrets", PLACES, for_containers=True)
    assert not (tmp_path / "secrets").exists()


def test_each_container_can_read_its_own(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    make_secrets(folder, PLACES, for_containers=True)
    owners = {path.name: path.stat().st_uid for path in folder.iterdir()}
    assert owners == {name: CONTAINER_USERS[each.reader] for name, each in SECRETS.items()}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    # A container's user passes through, and cannot see what else there is.
    assert folder.stat().st_mode & 0o777 == 0o711


def test_the_command_says_where_they_are_and_none_of_them(folder: Path) -> None:
    (folder / "backup_key").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "deployments.secrets", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Secrets made now: 1 in" in done.stdout
    assert not [name for name, value in read(folder).items() if value and value in done.stdout]


def test_a_mistake_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = subprocess.run(
        [sys.executable, "-m", "deployments.secrets", str(tmp_path / "file" / "secrets")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot be used" in done.stderr
