"""Keeps the rejected rows of a load until they can be written beside the accepted ones.

As received a row says what the encrypted cells beside it do not: where the load's dataset has
personal columns it is encrypted as a whole, before it comes to the spool.
"""

import csv
import io
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import IO, Self

from infra.cell_encryption import KeyRing
from infra.postgres.connection import Connection
from infra.postgres.copy import affected
from tasks.clean import Reject
from tasks.manifest import Entry
from tasks.sealing import QUARANTINED

_MEMORY_BYTES = 8 << 20
_COLUMNS = (
    "execution_id",
    "batch_id",
    "dataset",
    "source",
    "contract_version",
    "line",
    "rule",
    "column_name",
    "reason",
)
_RAW, _SEALED = "raw", "raw_sealed"


class Quarantine:
    """A spool: in memory while it is small, on disk from then on, so that memory stays bounded.

    The rows go into `metadata.quarantine` over the connection, and so in the transaction, of the
    load: a second connection could commit without it.
    """

    def __init__(self, entry: Entry, keys: KeyRing | None) -> None:
        """Remember what every row of this load has in common.

        keys: to encrypt the rows as received with; None: they are kept as they are.
        """
        self._keys = keys
        self.rules: Counter[tuple[str | None, str]] = Counter()
        """Rejected rows by the column and the first rule they broke."""
        self._common = (
            entry.execution_id,
            entry.batch_id,
            entry.table,
            entry.path,
            entry.contract_version or "",
        )
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by close
            max_size=_MEMORY_BYTES, prefix="sluiceway-"
        )
        self._text = io.TextIOWrapper(
            self._spool, encoding="utf-8", errors="backslashreplace", newline="", write_through=True
        )
        self._writer = csv.writer(self._text)

    def __enter__(self) -> Self:
        """Take part in a with statement."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Throw the spool away."""
        self._text.close()

    def add(self, rejects: Iterable[Reject]) -> None:
        """Keep these rows."""
        for each in rejects:
            self.rules[each.column, each.rule] += 1
            self._writer.writerow(
                (
                    *self._common,
                    each.line,
                    each.rule,
                    each.column or "",
                    _storable(each.reason),
                    self._keep(each.raw),
                )
            )

    async def write(self, connection: Connection) -> int:
        """Copy the rows into the quarantine; returns how many PostgreSQL took."""
        if not self.rules:
            return 0
        self._text.flush()
        self._spool.seek(0)
        raw = _RAW if self._keys is None else _SEALED
        status = await connection.copy_to_table(
            "quarantine",
            schema_name="metadata",
            columns=(*_COLUMNS, raw),
            source=_Chunks(self._spool),
            format="csv",
            force_not_null=("dataset", "source", "rule", "reason", raw),
        )
        return affected(status)

    def _keep(self, raw: str) -> str:
        """Return the row as its column takes it: text, or a cell as PostgreSQL writes bytea."""
        if self._keys is None:
            return _storable(raw)
        data = raw.encode("utf-8", "backslashreplace")
        return rf"\x{self._keys.seal(data, QUARANTINED).hex()}"


class _Chunks:
    """The spool in pieces, as asyncpg wants a source that is no real file."""

    def __init__(self, spool: IO[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(lambda: spool.read(1 << 20), b"")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


def _storable(text: str) -> str:
    # PostgreSQL's text holds every character but this one.
    return text.replace("\0", r"\x00")
