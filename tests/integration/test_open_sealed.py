"""Rejected rows of datasets with personal columns: kept encrypted, and read by who has the keys."""

import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from infra.cell_encryption import CellError
from infra.cell_keys import make_key, read_key_ring
from infra.settings import read_settings
from schemas.errors import SettingError, TerminalError, TransientError
from tasks.load import Outcome
from tasks.open_sealed import DEAD_LETTER, QUARANTINE, UNSENT, read_sealed
from tasks.sealing import DEAD_LETTERS, UNSENT_MESSAGES, seal_message

CUSTOMERS = (
    "customer_id,name,email,signup_date\n"
    "1,Ann,ann@example.com,2024-01-01\n"
    "two,Zoë Byron-Marker,zoe@example.com,2024-01-01\n"
    "3,Zoë Byron-Marker,zoe@example.com,2024-01-01,too much\n"
)
MISTYPED, RAGGED = CUSTOMERS.splitlines()[2:]
PRODUCTS = "product_id,name,category,price\n1,Spade,garden,cheap\n"


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def rejected(tmp_path: Path, load, owner) -> list[asyncpg.Record]:
    """The quarantine after a file of persons and one of things: RAGGED, MISTYPED, and a product."""
    for name, text in (("customers", CUSTOMERS), ("products", PRODUCTS)):
        path = tmp_path / f"{name}.csv"
        path.write_text(text, encoding="utf-8")
        assert (await load(path)).outcome is Outcome.LOADED
    rows: list[asyncpg.Record] = await owner.fetch("SELECT * FROM metadata.quarantine ORDER BY id")
    return rows


async def keep_messages(owner: asyncpg.Connection, value: bytes | None) -> None:
    """Leave it as a dead letter and as an unsent message, encrypted."""
    await owner.execute(
        """
        INSERT INTO metadata.dead_letters
            (consumer_group, topic, partition, message_offset, reason, detail, message_key,
             message_value, is_sealed)
        VALUES ('g', 't', 0, 0, 'r', 'd', $1, $2, $3)
        """,
        *seal_message(read_key_ring(), DEAD_LETTERS, b"key", value),
    )
    await owner.execute(
        """
        INSERT INTO metadata.unsent_messages
            (execution_id, topic, source, reason, detail, message_key, message_value, is_sealed)
        VALUES (1, 't', 's', 'r', 'd', $1, $2, $3)
        """,
        *seal_message(read_key_ring(), UNSENT_MESSAGES, b"key", value or b""),
    )


async def test_a_row_that_says_something_of_a_person_is_encrypted_whole(rejected) -> None:
    *personal, impersonal = rejected
    assert [each["raw"] for each in personal] == [None, None]
    assert (impersonal["raw"], impersonal["raw_sealed"]) == ("1,Spade,garden,cheap", None)
    head = b"\x01" + read_key_ring().current_id
    assert [each["raw_sealed"][:5] for each in personal] == [head, head]
    for row in personal:
        kept = b"".join(
            each if isinstance(each, bytes) else str(each).encode() for each in row.values()
        )
        assert "Zoë".encode() not in kept
        assert b"Byron-Marker" not in kept
        assert b"zoe@" not in kept


async def test_who_has_the_keys_reads_rows_and_messages_as_they_came(
    database, owner, rejected
) -> None:
    await keep_messages(owner, b'{"name": "Ada"}\xff')
    url, numbers = database.loader_url, [row["id"] for row in rejected]
    read = await read_sealed(url, QUARANTINE, numbers[::-1])
    assert list(read.items()) == [
        (numbers[2], "1,Spade,garden,cheap"),
        (numbers[1], MISTYPED),
        (numbers[0], RAGGED),
    ]
    for kind in (DEAD_LETTER, UNSENT):
        assert await read_sealed(url, kind, [1]) == {1: '{"name": "Ada"}\\xff'}


async def test_a_number_that_there_is_not_a_key_that_is_not_set_and_a_changed_row_are_sentences(
    database, owner, rejected, monkeypatch
) -> None:
    url, first = database.loader_url, rejected[0]["id"]
    await keep_messages(owner, None)
    assert await read_sealed(url, DEAD_LETTER, [1]) == {
        1: "(the message has no value: a tombstone)"
    }
    with pytest.raises(TerminalError, match=r"^There is no row in quarantine with the number 99:"):
        await read_sealed(url, QUARANTINE, [first, 99])
    with pytest.raises(TerminalError, match=r"^There is no unsent message with the number 99:"):
        await read_sealed(url, UNSENT, [99])
    await owner.execute("UPDATE metadata.unsent_messages SET message_value = message_key")
    with pytest.raises(CellError, match=r"^Unsent message 1: A cell of .* is not what was written"):
        await read_sealed(url, UNSENT, [1])
    with pytest.raises(TransientError, match="cannot be reached"):
        await read_sealed("postgresql://x:x@127.0.0.1:1/x", QUARANTINE, [1])
    try:
        monkeypatch.setenv("SLUICEWAY_CELL_KEYS", make_key("another"))
        read_settings.cache_clear()
        with pytest.raises(CellError, match=rf"^Row in quarantine {first}: .* key that is not set"):
            await read_sealed(url, QUARANTINE, [first])
        monkeypatch.setenv("SLUICEWAY_CELL_KEYS", "")
        monkeypatch.setenv("SLUICEWAY_INDEX_KEYS", "")
        read_settings.cache_clear()
        assert await read_sealed(url, QUARANTINE, [rejected[2]["id"]])
        with pytest.raises(SettingError, match="SLUICEWAY_CELL_KEYS is not set"):
            await read_sealed(url, QUARANTINE, [first])
        with pytest.raises(CellError, match="is encrypted, and no key is set"):
            await read_sealed(url, UNSENT, [1])
    finally:
        monkeypatch.undo()
        read_settings.cache_clear()


def test_the_command_prints_them_or_says_why_not(database, rejected) -> None:
    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tasks.open_sealed", *map(str, words)],
            env=os.environ | {"SLUICEWAY_DATABASE_URL": database.loader_url},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    first, second, _ = (row["id"] for row in rejected)
    whole = run("quarantine", first, second)
    assert whole.stdout == (f"quarantine {first}:\n{RAGGED}\nquarantine {second}:\n{MISTYPED}\n")
    assert whole.returncode == 0
    unknown = run("dead-letter", 7)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == (
        "There is no dead letter with the number 7: it may have been deleted as old, or be of "
        "another kind.\n"
    )


async def test_a_terminal_is_shown_control_characters_and_does_not_obey_them(
    database, owner, rejected
) -> None:
    number = rejected[2]["id"]
    await owner.execute(
        "UPDATE metadata.quarantine SET raw = $2 WHERE id = $1", number, "a\x1b[2Jb\tc"
    )
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "tasks.open_sealed", "quarantine", str(number)],
            env=os.environ | {"SLUICEWAY_DATABASE_URL": database.loader_url},
            stdout=theirs,
            check=True,
        )
        shown = os.read(ours, 1000)
    finally:
        os.close(ours)
        os.close(theirs)
    assert shown.split() == [rb"a\x1b[2Jb", b"c"]


async def test_the_reader_reads_what_is_known_of_a_row_and_never_what_it_said(
    database, rejected
) -> None:
    connection = await asyncpg.connect(database.reader_url)
    try:
        for column, table in (
            ("raw_sealed", "quarantine"),
            ("message_key", "dead_letters"),
            ("message_value", "dead_letters"),
            ("message_key", "unsent_messages"),
            ("message_value", "unsent_messages"),
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT {column} FROM metadata.{table}")  # noqa: S608 - names of this test
        rows = await connection.fetch("SELECT raw IS NULL FROM metadata.quarantine ORDER BY id")
        assert [row[0] for row in rows] == [True, True, False]
    finally:
        await connection.close()
