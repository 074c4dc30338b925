"""The person that somebody asks about: what they are known by, and never by a name in a log."""

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from prefect.blocks.system import Secret
from pydantic import BaseModel, SecretStr

from infra.cell_encryption import KeyRing, Place
from infra.redaction import hide_secrets_of
from schemas.dataset import Column, Spec
from schemas.errors import SettingError, TerminalError
from tasks.cast import cast
from tasks.personal_cells import place_of, write_text

STDIN = "-"


class _Hidden(BaseModel):
    """What no log line and no error shows from now on."""

    value: SecretStr


@dataclass(frozen=True, slots=True)
class Subject:
    """A dataset, a column of it, and the value that one person has there."""

    spec: Spec
    column: Column
    value: str = field(repr=False)
    """As the column's cells are encrypted; of a key, as PostgreSQL writes it."""
    only_here: bool = False
    """Whether the same value in another dataset may be somebody else's."""

    @property
    def is_key(self) -> bool:
        """Whether the person is named by the dataset's key, and by nothing personal."""
        return not self.column.pii

    def indexes_in(self, spec: Spec, ring: KeyRing) -> dict[str, list[bytes]]:
        """Return what the value is found by in a dataset, by its column of the same name."""
        if self.is_key or (self.only_here and spec.table != self.spec.table):
            return {}
        return {
            each.name: ring.find_by(self.value, place_of(spec, each))
            for each in spec.columns
            if each.pii and each.name == self.column.name
        }

    def digests(self, ring: KeyRing) -> list[bytes]:
        """Return what this person is recorded as (16 bytes): the first is written today."""
        return ring.find_by(self.value, Place(self.spec.table, self.column.name))


def name_subject(
    specs: Iterable[Spec], dataset: str, column: str, value: str, *, only_here: bool = False
) -> Subject:
    """Return the person whom the value names; raises TerminalError where it cannot name one.

    column: a personal one, or the dataset's key. only_here: leave other datasets alone.
    """
    by_table = {each.table: each for each in specs}
    personal = [name for name, each in by_table.items() if any(c.pii for c in each.columns)]
    spec = by_table.get(dataset)
    if spec is None or dataset not in personal:
        raise TerminalError(
            f"'{dataset}' is no dataset with personal columns: name one of "
            f"{', '.join(sorted(personal)) or 'none, there is none'}."
        )
    names = [each.name for each in spec.columns if each.pii]
    names += spec.key if len(spec.key) == 1 else ()
    if column not in names:
        raise TerminalError(
            f"'{column}' finds nobody in {dataset}: name one of {', '.join(names)}."
        )
    found = spec.column(column)
    values, wrong = cast(pl.Series(column, [value.strip()], dtype=pl.String), found)
    if values.null_count() or (wrong is not None and wrong.any()):
        raise TerminalError(
            f"The value is no {found.kind.value} as {dataset}.{column} has them, or it is empty: "
            "write it as the source does."
        )
    text: str = write_text(values, found).item()
    if "@" not in text:
        # An address is hidden anyway, whole. As a secret it would be cut out of longer ones.
        hide_secrets_of(_Hidden(value=SecretStr(text)))
    return Subject(spec, found, text, only_here)


async def read_value(file: str | None, block: str | None, *, prompt: str = "") -> str:
    """Return the value from a file, from stdin (`-`), or from a Prefect Secret block.

    It is never a parameter of a flow, which Prefect keeps, nor of a command, which every user of
    the machine can see. Raises SettingError where there is none to be had.
    """
    if (file is None) == (block is None):
        raise SettingError(
            "Say where the person's value is, once: a file (value_file, `-` is the command's "
            "input) or a Prefect Secret block (value_block)."
        )
    if block is not None:
        value = await _read_block(block)
    elif file == STDIN:
        if sys.stdin.isatty():
            sys.stderr.write(prompt)
            sys.stderr.flush()
        value = await asyncio.to_thread(sys.stdin.readline)
    else:
        try:
            value = await asyncio.to_thread(Path(str(file)).read_text, encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(
                f"The file {file}, which is to hold the person's value, cannot be read "
                f"({type(error).__name__}): name a text file that this process may read."
            ) from error
    if not value.strip():
        raise SettingError("The person's value is empty: write it into the file or the input.")
    return value.strip()


async def _read_block(name: str) -> str:
    try:
        block: Any = await Secret.aload(name)
    except ValueError as error:
        raise SettingError(
            f"Prefect has no Secret block '{name}': make it, or name another by value_block."
        ) from error
    return str(block.get())
