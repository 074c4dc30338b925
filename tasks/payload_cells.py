"""The cells of messages under the names of their contract, ready to be cleaned and checked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from infra.postgres.identifiers import slug
from schemas.dataset import Spec
from tasks.envelope_json import Broken, Reason, show_name
from tasks.source_messages import Integers, SourceMessages

_MAX_DRIFTS = 8
_MAX_SHARED_CELLS = 100_000


@dataclass(frozen=True, slots=True)
class SourceRows:
    """Messages of one source that have the same columns beyond the contract's."""

    source: str
    positions: Integers
    """Where they stand in the batch, ascending."""
    versions: pl.Series
    """Datetime("us", "UTC"): their timestamps."""
    cells: pl.DataFrame
    """String columns: all of the contract's, null where a message has none, then the others."""


@dataclass(slots=True)
class _Drift:
    """The messages that have just these columns beyond the contract's."""

    unknown: tuple[str, ...]
    positions: list[Integers] = field(default_factory=list)
    frames: list[pl.DataFrame] = field(default_factory=list)
    single_positions: list[int] = field(default_factory=list)
    singles: list[dict[str, str | None]] = field(default_factory=list)

    @property
    def height(self) -> int:
        return len(self.single_positions) + sum(map(len, self.positions))


def decode_payloads(messages: SourceMessages, spec: Spec) -> tuple[list[SourceRows], list[Broken]]:
    """Return the messages' cells under the contract's names, and those where a name is ambiguous.

    A column is the contract's as `tasks.clean.bind` matches names, but message by message, and
    `bind` refuses none of the results: no row hangs on the other messages of its batch. What the
    contract does not know keeps its own name, and only messages with the same such columns come
    together. Of a batch that has them in more than eight ways, the rarer ways share their rows'
    columns, with nulls: one statement for each of thousands would stop the stream.
    """
    drifts: dict[tuple[str, ...], _Drift] = {}
    refused: list[tuple[int, str]] = []
    matches: dict[tuple[str, ...], _Match] = {}

    def match(header: tuple[str, ...]) -> "_Match":
        if header not in matches:
            matches[header] = _match(header, spec)
        return matches[header]

    for block in messages.blocks:
        found = match(tuple(block.cells.columns))
        if found.problem:
            refused += ((position, found.problem) for position in block.positions.tolist())
            continue
        drift = drifts.setdefault(found.unknown, _Drift(found.unknown))
        drift.positions.append(block.positions)
        drift.frames.append(block.cells.rename(found.names))
    for single in messages.singles:
        found = match(single.header)
        if found.problem:
            refused.append((single.position, found.problem))
            continue
        drift = drifts.setdefault(found.unknown, _Drift(found.unknown))
        drift.single_positions.append(single.position)
        names = (found.names.get(name, name) for name in single.header)
        drift.singles.append(dict(zip(names, single.texts, strict=True)))
    broken = [
        Broken(position, Reason.AMBIGUOUS_KEY, problem, messages.source)
        for position, problem in sorted(refused)
    ]
    return [_join(shared, messages, spec) for shared in _share(list(drifts.values()))], broken


@dataclass(frozen=True, slots=True)
class _Match:
    """How the names of a header are those of a contract."""

    names: dict[str, str] = field(default_factory=dict)
    """The header's name to the contract's."""
    unknown: tuple[str, ...] = ()
    problem: str = ""


def _match(header: tuple[str, ...], spec: Spec) -> _Match:
    alike: dict[str, list[str]] = {}
    for name in header:
        alike.setdefault(slug(name), []).append(name)
    names: dict[str, str] = {}
    for name in spec.names:
        given = alike.get(name, [])
        if len(given) > 1 and name not in given:
            listed = " and ".join(map(show_name, given[:2]))
            return _Match(
                problem=f"the payload's {listed} could each be '{name}' of the contract {spec.name}"
            )
        if given:
            names[name if name in given else given[0]] = name
    unknown = tuple(sorted(name for name in header if name not in names))
    return _Match(names, unknown)


def _share(drifts: Sequence[_Drift]) -> Iterator[list[_Drift]]:
    """Yield the drifts singly, and those beyond the most common in groups of bounded size."""
    ordered = sorted(drifts, key=lambda each: each.height, reverse=True)
    yield from ([each] for each in ordered[:_MAX_DRIFTS])
    group: list[_Drift] = []
    names: set[str] = set()
    height = 0
    for each in ordered[_MAX_DRIFTS:]:
        wider = names | set(each.unknown)
        if group and len(wider) * (height + each.height) > _MAX_SHARED_CELLS:
            yield group
            group, wider, height = [], set(each.unknown), 0
        group.append(each)
        names, height = wider, height + each.height
    if group:
        yield group


def _join(drifts: Sequence[_Drift], messages: SourceMessages, spec: Spec) -> SourceRows:
    unknown = sorted({name for each in drifts for name in each.unknown})
    names = [*spec.names, *unknown]
    frames = [frame for each in drifts for frame in each.frames]
    places = [part for each in drifts for part in each.positions]
    pieces = [_widen(frame, names) for frame in frames]
    if singles := [single for each in drifts for single in each.singles]:
        columns = [
            pl.Series(name, [single.get(name) for single in singles], dtype=pl.String)
            for name in names
        ]
        pieces.append(pl.DataFrame(columns))
        places.append(np.array([each for drift in drifts for each in drift.single_positions]))
    positions, cells = np.concatenate(places), pl.concat(pieces)
    if len(pieces) > 1 or singles:
        order = np.argsort(positions)
        positions, cells = positions[order], cells[order]
    return SourceRows(
        source=messages.source,
        positions=positions,
        versions=messages.versions.gather(np.searchsorted(messages.positions, positions)),
        cells=cells,
    )


def _widen(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    given = set(frame.columns)
    nothing = pl.lit(None, dtype=pl.String)
    return frame.select(pl.col(name) if name in given else nothing.alias(name) for name in names)
