"""Kafka's messages as cells of text, by source: each message a row, or broken for a reason.

Most messages of a batch look like others of it. They are read as columns (`message_shapes`), the
rest one by one (`envelope_json`); both ways say the same of a message, and no message is
read with another.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.envelope_json import Broken, Message, Reason, parse_envelope, read_message
from tasks.event_times import read_times
from tasks.json_records import name_columns
from tasks.message_shapes import Cells, Shape, learn_shape

Integers = npt.NDArray[np.int64]

_LEAST_ALIKE = 32
"""Fewer messages are read one by one sooner than a pattern is made for them."""
_GAIN = 20
"""A shape that does not fit at least one in so many messages costs more than it saves."""
_MAX_POOR_SHAPES = 4
_MAX_SAMPLES = 16
"""Messages without a shape that are tried before the rest is read one by one."""
_GOLDEN = 0.618034
"""Steps of this length come everywhere in a batch."""
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


def decode_envelopes(
    values: Sequence[bytes | None], *, now: dt.datetime
) -> tuple[list[SourceMessages], list[Broken]]:
    """Return the messages by the source they name, and those that are broken, each message once.

    values: JSON objects in UTF-8 with the keys `source` (a text), `timestamp` (RFC 3339 with its
    zone, or milliseconds since 1970) and `payload` (an object); what other keys they have is
    passed over. now: this clock, that no timestamp may be a day ahead of. Nothing is raised,
    whatever the messages hold.
    """
    texts = pl.Series(values, dtype=pl.Binary).cast(pl.String, strict=False)
    waiting = pl.DataFrame({"position": np.arange(len(values)), "text": texts})
    unreadable = waiting["position"].filter(texts.is_null())
    gathered = _Gathered(now)
    waiting = _take_alike(waiting.filter(texts.is_not_null()), values, gathered)
    for position in (*unreadable.to_list(), *waiting["position"].to_list()):
        gathered.take(read_message(position, values[position]))
    return gathered.finish()


def raw_text(values: Sequence[bytes | None], positions: Sequence[int]) -> list[str]:
    """Return messages as a person can read them, what is no UTF-8 as escapes."""
    return [
        (values[each] or b"").decode("utf-8", "backslashreplace").replace("\0", r"\x00")
        for each in positions
    ]


def _take_alike(
    waiting: pl.DataFrame, values: Sequence[bytes | None], gathered: "_Gathered"
) -> pl.DataFrame:
    """Gather the messages that are like many others; return those that are not."""
    samples = poor_shapes = 0
    while (
        waiting.height >= _LEAST_ALIKE and samples < _MAX_SAMPLES and poor_shapes < _MAX_POOR_SHAPES
    ):
        # From all over the batch: a run of broken messages must not stand for all.
        tried = samples + poor_shapes
        sample = values[waiting["position"][int(tried * _GOLDEN % 1 * waiting.height)]]
        shape = _learn(sample)
        if shape is None:
            samples += 1
            continue
        fits, cells = shape.match(waiting["text"])
        count = int(fits.sum())
        gathered.take_block(shape.source, waiting["position"].filter(fits).to_numpy(), cells)
        poor_shapes += count * _GAIN < waiting.height
        waiting = waiting.filter(~fits)
    return waiting


def _learn(value: bytes | None) -> Shape | None:
    if value is None or isinstance(read_message(0, value), Broken):
        return None
    return learn_shape(parse_envelope(value), value.decode())


@dataclass(slots=True)
class _Source:
    """What was found of one source."""

    positions: list[Integers] = field(default_factory=list)
    versions: list[pl.Series] = field(default_factory=list)
    blocks: list[CellBlock] = field(default_factory=list)
    singles: list[CellRow] = field(default_factory=list)

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
    texts: dict[tuple[str, tuple[str, ...]], tuple[list[int], list[str | None]]] = field(
        default_factory=dict
    )
    """By source and keys: which of the messages they are, and their texts one after another."""

    def add(self, read: Message) -> None:
        key = (read.source, read.paths)
        alike = self.texts.get(key)
        if alike is None:
            alike = self.texts[key] = ([], [])
        row = len(self.positions)
        alike[0].append(row)
        alike[1].extend(read.texts)
        self.positions.append(read.position)
        self.sources.append(read.source)
        self.times.append(read.time)
        self.is_quoted.append(read.is_quoted)
        if read.has_nul:
            self.nul_rows.append(row)


class _Gathered:
    """What was read of a batch so far."""

    def __init__(self, now: dt.datetime) -> None:
        self.singles = _Singles()
        self.broken: list[Broken] = []
        self._now = now
        self._sources: dict[str, _Source] = {}

    def take(self, read: Message | Broken) -> None:
        if isinstance(read, Broken):
            self.broken.append(read)
        else:
            self.singles.add(read)

    def take_block(self, source: str, positions: Integers, cells: Cells) -> None:
        quoted = pl.repeat(value=cells.is_quoted, n=len(positions), eager=True, dtype=pl.Boolean)
        sources = [source] * len(positions)
        versions, kept = self._settle(positions, sources, cells.times, quoted, cells.nul_rows)
        if len(kept):
            payloads = cells.payloads
            if len(kept) < len(positions):
                positions, versions, payloads = (
                    positions[kept],
                    versions.gather(kept),
                    payloads[kept],
                )
            found = self._sources.setdefault(source, _Source())
            found.positions.append(positions)
            found.versions.append(versions)
            found.blocks.append(CellBlock(positions, payloads))

    def finish(self) -> tuple[list[SourceMessages], list[Broken]]:
        if self.singles.positions:
            self._place_singles()
        whole = [found.finish(source) for source, found in self._sources.items()]
        return whole, sorted(self.broken)

    def _place_singles(self) -> None:
        singles = self.singles
        positions = np.array(singles.positions, dtype=np.int64)
        versions, kept = self._settle(
            positions,
            singles.sources,
            pl.Series(singles.times, dtype=pl.String),
            pl.Series(singles.is_quoted, dtype=pl.Boolean),
            singles.nul_rows,
        )
        is_kept = np.zeros(len(positions), dtype=np.bool_)
        is_kept[kept] = True
        rows_of: dict[str, list[Integers]] = {}
        for (source, paths), (every, texts) in singles.texts.items():
            rows = np.array(every, dtype=np.int64)
            chosen = np.flatnonzero(is_kept[rows])
            if not len(chosen):
                continue
            rows_of.setdefault(source, []).append(rows[chosen])
            found = self._sources.setdefault(source, _Source())
            header = tuple(name_columns(paths))
            width = len(header)
            if header and len(chosen) >= _LEAST_ALIKE:
                cells = pl.DataFrame(
                    pl.Series(name, texts[place::width], dtype=pl.String)
                    for place, name in enumerate(header)
                )
                found.blocks.append(CellBlock(positions[rows[chosen]], cells[chosen]))
                continue
            found.singles += (
                CellRow(singles.positions[every[at]], header, texts[at * width : (at + 1) * width])
                for at in chosen.tolist()
            )
        for source, parts in rows_of.items():
            rows = np.concatenate(parts)
            self._sources[source].positions.append(positions[rows])
            self._sources[source].versions.append(versions.gather(rows))

    def _settle(
        self,
        positions: Integers,
        sources: Sequence[str],
        times: pl.Series,
        is_quoted: pl.Series,
        nul_rows: Collection[int],
    ) -> tuple[pl.Series, Integers]:
        """Return the versions, and which messages have no fault; keep those that have one."""
        versions, wrong = read_times(times, is_quoted, now=self._now)
        faults = {row: (reason, detail) for row, reason, detail in wrong}
        for row in nul_rows:
            faults.setdefault(row, (Reason.NUL_CHARACTER, _NUL_DETAIL))
        self.broken += (
            Broken(int(positions[row]), *fault, sources[row]) for row, fault in faults.items()
        )
        rows = np.arange(len(positions))
        return versions, np.setdiff1d(rows, list(faults)) if faults else rows
