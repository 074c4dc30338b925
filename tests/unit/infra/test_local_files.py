"""The parts of the local stack that open no socket."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.binaries import Binaries, find_binaries, find_secured_binaries
from infra.local.cluster import Cluster, quote_value
from infra.local.environment import STACK_MARK, inherit_environment
from infra.local.folder import StateFolder, read_json, write_privately
from infra.local.identity import Identity
from infra.local.lock import Lock
from schemas.errors import TerminalError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_stays_the_same_and_is_its_owners_alone(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    first = folder.secret("loader")
    assert folder.secret("loader") == first
    assert folder.secret("reader") != first
    assert mode(folder.root / "secrets" / "loader") == 0o600
    assert mode(folder.root / "secrets") == 0o700


def test_a_key_is_made_once_and_missed_while_its_data_is_there(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    made = folder.key("cell-keys", lambda: "first")
    assert folder.key("cell-keys", lambda: "second") == made == "first"
    kept = folder.root / "secrets" / "cell-keys"
    assert mode(kept) == 0o600
    kept.rename(tmp_path / "lost")
    with pytest.raises(TerminalError, match=rf"The key {kept} is gone, and what was encrypted"):
        folder.key("cell-keys", lambda: "second")
    assert not kept.exists()
    # With the data gone too, there is nothing that a new key could not read.
    shutil.rmtree(folder.data.parent)
    assert folder.key("cell-keys", lambda: "second") == "second"


def test_a_stack_that_speaks_tls_shares_no_data_and_no_secret(tmp_path: Path) -> None:
    plain, secured = StateFolder(tmp_path), StateFolder(tmp_path, is_secured=True)
    assert plain.secret("loader") != secured.secret("loader")
    for name in ("data", "broker", "prefect"):
        assert secured.root / "tls" in getattr(secured, name).parents
        assert secured.own not in getattr(plain, name).parents
    for name in ("run", "lock", "environment_file", "mark"):
        assert getattr(plain, name) == getattr(secured, name)
    secured.make()
    assert mode(secured.own) == 0o700


def test_a_private_file_replaces_one_that_everybody_could_read(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("old")
    path.chmod(0o644)
    write_privately(path, "new")
    assert path.read_text() == "new"
    assert mode(path) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_half_a_note_reads_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "note.json"
    path.write_text(text)
    assert read_json(path) == {}
    assert read_json(tmp_path / "none.json") == {}


def test_a_lock_is_held_by_one_and_passed_on(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_a_child_that_outlives_its_parent_keeps_no_lock(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    assert lock.acquire()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        lock.release()
        taken = Lock(tmp_path / "lock")
        assert taken.acquire()
        taken.release()
        child.communicate(b"\n")


def test_the_stack_inherits_settings_but_no_foreign_prefect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://production.example/api")
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    monkeypatch.setenv("SLUICEWAY_RAW_FOLDER", "elsewhere")
    monkeypatch.setenv("NO_PROXY", "intranet")
    for name in ("CELL_KEYS", "OWNER_DATABASE_URL", "INDEX_KEYS_FILE", "KAFKA_SECURITY"):
        monkeypatch.setenv(f"SLUICEWAY_{name}", "of another")
    environment = inherit_environment("mark")
    assert "of another" not in environment.values()
    assert not [name for name in environment if name.startswith("PREFECT_")]
    assert environment["SLUICEWAY_RAW_FOLDER"] == "elsewhere"
    assert environment["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert environment[STACK_MARK] == "mark"
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_a_data_folder_of_another_major_version_is_refused_with_a_sentence(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("12\n")
    cluster = Cluster(data, find_binaries(), Identity())
    with pytest.raises(TerminalError, match=r"was written by PostgreSQL 12, and this is .* \d\d"):
        cluster.prepare()
    assert (data / "PG_VERSION").read_text() == "12\n"


def test_a_folder_without_programs_is_named(tmp_path: Path) -> None:
    with pytest.raises(TerminalError, match=f"programs in {tmp_path} cannot be run"):
        _ = Binaries(tmp_path).major_version


def test_the_newest_postgresql_of_the_system_is_taken_for_tls(tmp_path: Path) -> None:
    with pytest.raises(TerminalError, match=r"no PostgreSQL that speaks TLS in .*: run `make sys"):
        find_secured_binaries(tmp_path)
    for version in ("9", "15", "16", "local"):
        program = tmp_path / version / "bin" / "postgres"
        program.parent.mkdir(parents=True)
        program.touch()
    assert find_secured_binaries(tmp_path).folder == tmp_path / "16" / "bin"


def test_settings_are_quoted_for_postgresql() -> None:
    assert quote_value(r"it's a \path") == r"'it''s a \\path'"


def test_parents_are_opened_for_the_other_user_and_each_is_said(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "data"
    inner.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    notes = Identity(user_id=os.getuid()).open_parents(inner)
    assert any(f"Opened {tmp_path / 'closed'} " in note for note in notes)
    assert mode(tmp_path / "closed") == 0o701
    assert Identity().open_parents(inner) == []
