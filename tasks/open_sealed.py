"""Prints rejected rows and messages as they were received, by the keys of the settings.

    python -m tasks.open_sealed quarantine ID…
    python -m tasks.open_sealed dead-letter ID…
    python -m tasks.open_sealed unsent ID…

Numbers are those of the tables' column `id`; the dashboard shows them. What is not encrypted is
printed as it stands there. On a terminal control characters are shown as escapes.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import Mapping, Sequence

import asyncpg

from infra.cell_encryption import CellError, KeyRing
from infra.cell_keys import read_key_ring
from infra.postgres.connection import TRANSIENT, connect
from infra.settings import read_settings
from schemas.errors import SluicewayError, TerminalError, TransientError
from tasks.database import find_database_url
from tasks.sealing import (
    DEAD_LETTERS,
    QUARANTINED,
    UNSENT_MESSAGES,
    VALUE,
    find_key_ring,
    open_column,
)

QUARANTINE, DEAD_LETTER, UNSENT = "quarantine", "dead-letter", "unsent"
_QUERIES: Mapping[str, str] = {
    QUARANTINE: "SELECT id, raw, raw_sealed FROM metadata.quarantine WHERE id = ANY($1)",
    DEAD_LETTER: (
        "SELECT id, message_value, is_sealed FROM metadata.dead_letters WHERE id = ANY($1)"
    ),
    UNSENT: "SELECT id, message_value, is_sealed FROM metadata.unsent_messages WHERE id = ANY($1)",
}
_NAMES = {
    QUARANTINE: "row in quarantine",
    DEAD_LETTER: "dead letter",
    UNSENT: "unsent message",
}
_TOMBSTONE = "(the message has no value: a tombstone)"
# All but tabulator and line end, and what ISO 8859-1 has of them too.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MAX_ID = 2**63 - 1


async def read_sealed(url: str, kind: str, ids: Sequence[int]) -> dict[int, str]:
    """Return what these rows or messages said, by number, in the order in which they are asked for.

    url: as a role that may read them, such as the loader's. Raises TerminalError for a number that
    there is not, CellError for what cannot be read, TransientError when PostgreSQL is away.
    """
    try:
        connection = await connect(url)
        try:
            found = await connection.fetch(_QUERIES[kind], list(ids))
        finally:
            await connection.close()
    except TRANSIENT as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TransientError(f"PostgreSQL is away ({reason}): try again later.") from error
    rows = {row["id"]: row for row in found}
    if unknown := [each for each in ids if each not in rows]:
        raise TerminalError(
            f"There is no {_NAMES[kind]} with the number {unknown[0]}: it may have been deleted as "
            "old, or be of another kind."
        )
    return {each: _open(find_key_ring(), kind, rows[each]) for each in ids}


def _open(ring: KeyRing | None, kind: str, row: asyncpg.Record) -> str:
    try:
        data = _read(ring, kind, row)
    except CellError as error:
        raise CellError(f"{_NAMES[kind].capitalize()} {row['id']}: {error}") from error
    return _TOMBSTONE if data is None else data.decode("utf-8", "backslashreplace")


def _read(ring: KeyRing | None, kind: str, row: asyncpg.Record) -> bytes | None:
    if kind != QUARANTINE:
        table = DEAD_LETTERS if kind == DEAD_LETTER else UNSENT_MESSAGES
        return open_column(ring, table, row, VALUE)
    if row["raw"] is not None:
        text: str = row["raw"]
        return text.encode()
    return (ring or read_key_ring()).open(row["raw_sealed"], QUARANTINED)


def _print(kind: str, texts: Mapping[int, str]) -> None:
    for number, text in texts.items():
        if len(texts) > 1:
            sys.stdout.write(f"{kind} {number}:\n")
        shown = _CONTROL.sub(lambda found: rf"\x{ord(found[0]):02x}", text)
        # A terminal would carry out what stands in it; a file has it as it was.
        sys.stdout.write((shown if sys.stdout.isatty() else text) + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tasks.open_sealed", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("kind", choices=list(_QUERIES), help="what the numbers are of")
    parser.add_argument("ids", nargs="+", metavar="ID", type=_read_id, help="as in the table")
    return parser.parse_args()


def _read_id(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > _MAX_ID:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of a row")
    return int(text)


async def _run(given: argparse.Namespace) -> dict[int, str]:
    return await read_sealed(await find_database_url(read_settings()), given.kind, given.ids)


def main() -> None:
    """Print from the command line; exits with a sentence when it cannot."""
    given = _parse()
    try:
        _print(given.kind, asyncio.run(_run(given)))
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
