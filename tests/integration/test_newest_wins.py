"""The newest row of each key wins, whichever way and in whatever order its rivals come.

Files and messages in random order, against a model of thirty lines: every row of every table, and
every term of every ledger.
"""

import csv
import datetime as dt
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deployments.bootstrap import bootstrap
from schemas.dataset import Dataset, History, Role, column
from schemas.spec import Spec
from tasks.extract_csv import CsvFile
from tasks.ledger import Ledger
from tasks.load import Order, load_source


class Gates(Dataset, table="gates", role=Role.DIMENSION, key=("gate_id",)):
    """A dimension of type 1."""

    gate_id: str = column()
    value: int = column(missing=7)


class Tariffs(
    Dataset,
    table="tariffs",
    role=Role.DIMENSION,
    key=("tariff_id",),
    history=History.KEEP_VERSIONS,
):
    """A dimension of type 2."""

    tariff_id: str = column()
    value: int = column(missing=7)


class Passages(Dataset, table="passages", role=Role.FACT, key=("passage_id",)):
    """A fact that names rows of another dataset than those it comes with."""

    passage_id: str = column()
    value: int = column(missing=7)
    lane_id: str = column(nullable=True)


class Meters(Dataset, table="meters", role=Role.FACT, key=("meter_id",), version="read_at"):
    """A fact that says itself how new it is."""

    meter_id: str = column()
    value: int = column(missing=7)
    read_at: dt.datetime = column()


DATASETS = (Gates, Tariffs, Passages, Meters)
SPECS = {each.spec.table: each.spec for each in DATASETS}
NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
FIRST_OFFSET = 1000
"""Beyond every line of a file: of a file and a message of one moment, the message is later."""

Place = tuple[float, int]


@dataclass(frozen=True)
class Item:
    """One thing that is said, to each dataset alike."""

    key: str
    minute: float
    value: int | None
    """None: the contract's default is filled in."""
    place: int = 0
    """Line or offset."""

    def row(self, spec: Spec) -> dict[str, object]:
        row: dict[str, object] = {spec.key[0]: self.key, "value": self.value}
        if spec.version:
            row["read_at"] = at(self.minute).isoformat()
        return row

    def said(self, spec: Spec) -> tuple[int, float]:
        return (7 if self.value is None else self.value, self.minute if spec.version else 0)


def at(minute: float) -> dt.datetime:
    return NOON + dt.timedelta(minutes=minute)


@dataclass
class Model:
    """What a warehouse table is to hold, worked out row by row."""

    held: dict[str, tuple[Place, tuple[int, float]]] = field(default_factory=dict)
    chains: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """By key: when each version began, and what it said."""

    def load(self, items: Iterable[Item], spec: Spec) -> Ledger:
        items = list(items)
        terms = Counter(read=len(items), filled=sum(each.value is None for each in items))
        winners: dict[str, Item] = {}
        for each in sorted(items, key=lambda each: (each.minute, each.place)):
            winners[each.key] = each
        for each in items:
            winner = winners[each.key]
            if each is not winner:
                same = each.said(spec) == winner.said(spec)
                terms["duplicates" if same else "superseded"] += 1
        for key, winner in winners.items():
            terms[self._take(key, winner, spec)] += 1
        return Ledger(**terms)

    def _take(self, key: str, winner: Item, spec: Spec) -> str:
        place, said = (winner.minute, winner.place), winner.said(spec)
        before = self.held.get(key)
        if before is not None and before[1] == said:
            self.held[key] = (max(before[0], place), said)
            return "unchanged"
        if before is not None and place < before[0]:
            return "superseded"
        self.held[key] = (place, said)
        chain = self.chains.setdefault(key, [])
        if chain and winner.minute > chain[-1][0]:
            chain.append((winner.minute, said[0]))
        else:
            chain[-1:] = [(chain[-1][0] if chain else float("-inf"), said[0])]
        return "updated" if before is not None else "inserted"


class Sides:
    """The database and the model, told the same."""

    def __init__(self, feed, pool, execution_id: int, folder: Path, owner) -> None:
        self.feed = feed
        self.pool = pool
        self.execution_id = execution_id
        self.folder = folder
        self.owner = owner
        self.serial = count(1)
        self.offsets = [FIRST_OFFSET, FIRST_OFFSET + 1]
        self.models = {table: Model() for table in SPECS}
        self.staged = 0

    async def send(self, sent: list[tuple[int, str, int, int | None]]) -> None:
        """Load a batch of messages: partition, key, minute, value."""
        items: list[Item] = []
        values: dict[int, list[bytes]] = {0: [], 1: []}
        offsets: dict[int, list[int]] = {0: [], 1: []}
        taken = {table: [] for table in SPECS}
        for partition, key, minute, value in sent:
            for table, spec in SPECS.items():
                # No two messages have one offset: which of them were newer, nothing says.
                offset = self.offsets[partition]
                self.offsets[partition] += 2
                item = Item(key, minute, value, offset)
                taken[table].append(item)
                # Where the contract names a version, the envelope's time says the opposite.
                time = at(-minute if spec.version else minute).isoformat()
                envelope = {"source": table, "timestamp": time, "payload": item.row(spec)}
                values[partition].append(json.dumps(envelope).encode())
                offsets[partition].append(offset)
                items.append(item)
        parts = [
            await self.feed.take(*values[each], partition=each, offsets=offsets[each])
            for each in values
            if values[each]
        ]
        report = await self.feed.load(*parts)
        self.staged += len(sent)
        for table, spec in SPECS.items():
            assert report.ledgers[table] == self.models[table].load(taken[table], spec), table

    async def put(self, minute: float, lines: list[tuple[str, int | None]]) -> None:
        """Load a file to each dataset: key and value of each line."""
        # No two files are of one moment, nor a file and a message.
        minute += 0.5 + next(self.serial) / 1000
        for table, spec in SPECS.items():
            items = [Item(key, minute, value, row) for row, (key, value) in enumerate(lines, 2)]
            path = self.folder / f"{table}_{minute}.csv"
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, spec.names)
                writer.writeheader()
                writer.writerows(each.row(spec) for each in items)
            os.utime(path, (at(minute).timestamp(),) * 2)
            order = Order(self.execution_id, str(path), table, spec)
            report = await load_source(self.pool, CsvFile(path), order)
            assert report.ledger == self.models[table].load(items, spec), table
        self.staged += len(lines)

    async def compare(self) -> None:
        for table, spec in SPECS.items():
            held = {key: said for key, (_, said) in self.models[table].held.items()}
            prefix = "dim" if spec.role is Role.DIMENSION else "fact"
            key = spec.key[0]
            current = " WHERE is_current" if table == "tariffs" else ""
            rows = await self.owner.fetch(
                f"SELECT {key} AS key, value FROM warehouse.{prefix}_{table}{current}"  # noqa: S608 - names of this module
            )
            assert len(rows) == len(held)
            assert {row["key"]: row["value"] for row in rows} == {
                each: value for each, (value, _) in held.items()
            }
            staged = f"SELECT count(*) FROM staging.{table}"  # noqa: S608 - likewise
            assert await self.owner.fetchval(staged) == self.staged
        rows = await self.owner.fetch(
            "SELECT tariff_id, value, valid_from, valid_to, is_current FROM warehouse.dim_tariffs"
            " ORDER BY tariff_id, valid_from"
        )
        assert [tuple(row) for row in rows] == list(chain_rows(self.models["tariffs"]))


def chain_rows(model: Model) -> Iterator[tuple[object, ...]]:
    """Yield each version as the table has it: without a gap, without an overlap."""
    for key, chain in sorted(model.chains.items()):
        for place, (since, value) in enumerate(chain):
            after = chain[place + 1][0] if place + 1 < len(chain) else None
            yield (key, value, moment(since), moment(after), after is None)


def moment(minute: float | None) -> dt.datetime:
    # asyncpg gives the ends of time without a zone.
    if minute is None:
        return dt.datetime.max  # noqa: DTZ901
    if minute == float("-inf"):
        return dt.datetime.min  # noqa: DTZ901
    return at(minute)


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    await bootstrap(database.owner_url, datasets=DATASETS)
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


keys = st.sampled_from("abc")
minutes = st.integers(0, 4)
said = st.sampled_from([1, 2, None])
batches = st.tuples(
    st.just("send"),
    st.lists(st.tuples(st.integers(0, 1), keys, minutes, said), min_size=1, max_size=6),
)
files = st.tuples(
    st.just("put"), st.tuples(minutes, st.lists(st.tuples(keys, said), min_size=1, max_size=4))
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.one_of(batches, batches, files), min_size=1, max_size=6))
@example(  # said again at one moment, and another thing between the two, late
    steps=[("send", [(0, "a", 1, 1)]), ("send", [(0, "a", 1, 1)]), ("send", [(1, "a", 1, 2)])]
)
@example(  # confirmed by a file, and what was said in between
    steps=[("send", [(0, "a", 1, 1)]), ("put", (3, [("a", 1)])), ("send", [(0, "a", 2, 2)])]
)
@example(  # said again by a message, and a file of in between
    steps=[("send", [(0, "a", 1, 1)]), ("send", [(0, "a", 4, 1)]), ("put", (2, [("a", 2)]))]
)
@example(  # a late file, and its rival in another partition
    steps=[
        ("put", (4, [("a", 1)])),
        ("put", (1, [("a", 2), ("b", 2)])),
        ("send", [(1, "b", 0, 1), (0, "b", 1, 2)]),
    ]
)
async def test_files_and_messages_in_any_order_leave_what_the_model_says(
    owner, session, pool, make_feed, execution_id: int, tmp_path: Path, steps
) -> None:
    await owner.execute(
        """
        TRUNCATE staging.gates, staging.tariffs, staging.passages, staging.meters,
            warehouse.dim_gates, warehouse.dim_tariffs, warehouse.fact_passages,
            warehouse.fact_meters, metadata.source_files, metadata.stream_offsets,
            metadata.stream_batches, metadata.dataset_counts CASCADE
        """
    )
    feed = make_feed(session, execution_id, SPECS)
    sides = Sides(feed, pool, execution_id, tmp_path, owner)
    for kind, what in steps:
        if kind == "send":
            await sides.send(what)
        else:
            await sides.put(*what)
    await sides.compare()
