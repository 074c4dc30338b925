"""The messages of a batch by source, and those that are broken."""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.envelope_json import Broken, Message, Reason
from tasks.event_times import read_times
from tasks.json_records import name_columns
from tasks.message_shapes import Cells

Integers = npt.NDArray[np.int64]

LEAST_ALIKE = 32
"""Fewer messages are handled one by one sooner than as columns."""
_NUL_DETAIL = "a value holds a NUL character, which PostgreSQL cannot keep in text"


@dataclass(frozen=True, slots=True)
class CellBlock:
    """Payloads with the same columns."""

    positions: Integers
    """Where their messages stand in the batch."""
    cells: pl.DataFrame
    """String columns, as `tasks.extract_frame.from_records` gives them for each record alone."""


@dataclass(frozen=True, slots=True)
class CellRow:
    """One payload."""

    position: int
    """Where its message stands in the batch."""
    header: tuple[str, ...]
    texts: list[str | None]


@dataclass(frozen=True, slots=True)
class SourceMessages:
    """The whole messages of one source; each is in one block or one of the singles."""

    source: str
    positions: Integers
    """Where they stand in the batch, ascending."""
    versions: pl.Series
    """Datetime("us", "UTC"): their timestamps."""
    blocks: Sequence[CellBlock]
    singles: Sequence[CellRow]


@dataclass(slots=True)
class _Source:
    """What was found of one source."""

    positions: list[Integers] = field(default_factory=list)
    versions: list[pl.Series] = field(default_factory=list)
    blocks: list[CellBlock] = field(default_factory=list)
    singles: list[CellRow] = field(default_factory=list)

    def add_cells(
        self,
        positions: Integers,
        chosen: Integers,
        header: tuple[str, ...],
        texts: list[str | None],
    ) -> None:
        """Add the chosen rows of these texts: as a block if they are many."""
        width = len(header)
        if header and len(chosen) >= LEAST_ALIKE:
            columns = [
                pl.Series(name, texts[place::width], dtype=pl.String)
                for place, name in enumerate(header)
            ]
            # Of an iterator Polars would take the first thousand.
            cells = pl.DataFrame(columns)
            self.blocks.append(CellBlock(positions, cells[chosen]))
            return
        self.singles += (
            CellRow(position, header, texts[row * width : (row + 1) * width])
            for position, row in zip(positions.tolist(), chosen.tolist(), strict=True)
        )

    def finish(self, name: str) -> SourceMessages:
        positions, versions = np.concatenate(self.positions), pl.concat(self.versions)
        order = np.argsort(positions)
        return SourceMessages(
            name, positions[order], versions.gather(order), self.blocks, self.singles
        )


@dataclass(slots=True)
class _Singles:
    """Messages that were read one by one.

    In columns: an object for each would keep the garbage collector busy.
    """

    positions: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    times: list[str | None] = field(default_factory=list)
    is_quoted: list[bool] = field(default_factory=list)
    nul_rows: list[int] = field(default_factory=list)
    alike: dict[tuple[str, tuple[str, ...]], tuple[list[int], list[str | None]]] = field(
        default_factory=dict
    )
    """By source and keys: which of the messages they are, and their texts one after another."""

    def add(self, read: Message) -> None:
        row = len(self.positions)
        members, texts = self.alike.setdefault((read.source, read.paths), ([], []))
        members.append(row)
        texts += read.texts
        self.positions.append(read.position)
        self.sources.append(read.source)
        self.times.append(read.time)
        self.is_quoted.append(read.is_quoted)
        if read.has_nul:
            self.nul_rows.append(row)


class MessageSorter:
    """Takes the messages of one batch, and gives them back by source."""

    def __init__(self, now: dt.datetime) -> None:
        """Start with none; no message may be a day ahead of `now`."""
        self._now = now
        self._broken: list[Broken] = []
        self._sources: dict[str, _Source] = {}
        self._singles = _Singles()

    def take(self, read: Message | Broken) -> None:
        """Take a message that was read by itself."""
        if isinstance(read, Broken):
            self._broken.append(read)
        else:
            self._singles.add(read)

    def take_block(self, source: str, positions: Integers, cells: Cells) -> None:
        """Take the messages of one shape."""
        versions, kept = self._set_aside(
            positions,
            [source] * len(positions),
            cells.times,
            pl.repeat(value=cells.is_quoted, n=len(positions), eager=True, dtype=pl.Boolean),
            cells.nul_rows,
        )
        payloads = cells.payloads
        if len(kept) < len(positions):
            positions, versions = positions[kept], versions.gather(kept)
            payloads = payloads[kept]
        if len(positions):
            found = self._sources.setdefault(source, _Source())
            found.positions.append(positions)
            found.versions.append(versions)
            found.blocks.append(CellBlock(positions, payloads))

    def finish(self) -> tuple[list[SourceMessages], list[Broken]]:
        """Return all that is whole, and the rest in the order of their positions."""
        if self._singles.positions:
            self._place_singles()
        whole = [found.finish(source) for source, found in self._sources.items()]
        return whole, sorted(self._broken)

    def _place_singles(self) -> None:
        singles = self._singles
        positions = np.array(singles.positions, dtype=np.int64)
        versions, kept = self._set_aside(
            positions,
            singles.sources,
            pl.Series(singles.times, dtype=pl.String),
            pl.Series(singles.is_quoted, dtype=pl.Boolean),
            singles.nul_rows,
        )
        is_kept = np.isin(np.arange(len(positions)), kept)
        rows_of: dict[str, list[Integers]] = {}
        for (source, paths), (members, texts) in singles.alike.items():
            rows = np.array(members, dtype=np.int64)
            chosen = np.flatnonzero(is_kept[rows])
            if len(chosen):
                rows = rows[chosen]
                rows_of.setdefault(source, []).append(rows)
                found = self._sources.setdefault(source, _Source())
                found.add_cells(positions[rows], chosen, tuple(name_columns(paths)), texts)
        for source, parts in rows_of.items():
            rows = np.concatenate(parts)
            self._sources[source].positions.append(positions[rows])
            self._sources[source].versions.append(versions.gather(rows))

    def _set_aside(
        self,
        positions: Integers,
        sources: Sequence[str],
        times: pl.Series,
        is_quoted: pl.Series,
        nul_rows: Collection[int],
    ) -> tuple[pl.Series, Integers]:
        """Return the versions, and which messages have no fault; note those that have one."""
        versions, wrong = read_times(times, is_quoted, now=self._now)
        faults = {row: (reason, detail) for row, reason, detail in wrong}
        for row in nul_rows:
            faults.setdefault(row, (Reason.NUL_CHARACTER, _NUL_DETAIL))
        self._broken += (
            Broken(int(positions[row]), *fault, sources[row]) for row, fault in faults.items()
        )
        rows = np.arange(len(positions))
        return versions, np.setdiff1d(rows, list(faults)) if faults else rows
