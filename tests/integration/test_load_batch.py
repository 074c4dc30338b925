"""A micro-batch: each message is a row or a dead letter, and all of it is there or nothing."""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from deployments.bootstrap import bootstrap
from infra.postgres.connection import TRANSIENT, Pool
from schemas.dataset import Dataset, History, Role, column
from schemas.errors import TerminalError
from tasks import merge, stream_session
from tasks.ledger import Ledger
from tasks.offsets import FencedError
from tasks.stream_session import StreamSession


class Gates(Dataset, table="gates", role=Role.DIMENSION, key=("gate_id",)):
    """Where one passes."""

    gate_id: str = column()
    label: str = column(nullable=True)


class Tariffs(
    Dataset,
    table="tariffs",
    role=Role.DIMENSION,
    key=("tariff_id",),
    history=History.KEEP_VERSIONS,
):
    """What one pays; earlier prices are kept."""

    tariff_id: str = column()
    price: int = column(ge=0)


class Passages(
    Dataset, table="passages", role=Role.FACT, key=("passage_id",), event_time="passed_at"
):
    """Who passed a gate."""

    passage_id: str = column()
    gate_id: str = column(references=Gates)
    tariff_id: str = column(references=Tariffs)
    passed_at: dt.datetime = column()
    persons: int = column(missing=1, ge=1)


class Remarks(Dataset, table="remarks", role=Role.STAGING):
    """What was said; without a key."""

    text: str = column(str_length={"max_value": 40})


DATASETS = (Gates, Tariffs, Passages, Remarks)
SPECS = {each.spec.table: each.spec for each in DATASETS}
NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
TABLES = (
    "warehouse.dim_gates",
    "warehouse.dim_tariffs",
    "warehouse.fact_passages",
    "staging.gates",
    "staging.tariffs",
    "staging.passages",
    "staging.remarks",
    "metadata.dead_letters",
)
HUGE = "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(9_000))
"""No index of PostgreSQL takes so long a text, however well it is compressed."""


def at(minute: float) -> str:
    return (NOON + dt.timedelta(minutes=minute)).isoformat()


def envelope(source: str, minute: float, **payload: object) -> bytes:
    message = {"source": source, "timestamp": at(minute), "payload": payload}
    return json.dumps(message).encode()


def gate(name: str, minute: float = 0, **others: object) -> bytes:
    return envelope("gates", minute, gate_id=name, **others)


def tariff(name: str, price: int, minute: float = 0) -> bytes:
    return envelope("tariffs", minute, tariff_id=name, price=price)


def passage(name: str, minute: float = 0, *, passed: float = 0, **others: object) -> bytes:
    payload = {"gate_id": "north", "tariff_id": "day", "passed_at": at(passed), **others}
    return envelope("passages", minute, passage_id=name, **payload)


def remark(text: str) -> bytes:
    return envelope("remarks", 0, text=text)


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    await bootstrap(database.owner_url, datasets=DATASETS)
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def feed(owner, session, execution_id: int, make_feed) -> Any:
    return make_feed(session, execution_id, SPECS)


async def letters(owner: asyncpg.Connection) -> list[tuple[int, str]]:
    """Return offset and reason of each dead letter."""
    rows = await owner.fetch(
        "SELECT message_offset, reason FROM metadata.dead_letters"
        " ORDER BY partition, message_offset"
    )
    return [tuple(row) for row in rows]


async def dump(owner: asyncpg.Connection, *tables: str) -> list[list[str]]:
    """Return every row of each table as a text."""
    found = []
    for table in tables:
        rows = await owner.fetch(f"SELECT t::text FROM {table} AS t ORDER BY 1")  # noqa: S608 - names of this module
        found.append([row["t"] for row in rows])
    return found


async def passages(owner: asyncpg.Connection) -> dict[str, int]:
    rows = await owner.fetch("SELECT passage_id, persons FROM warehouse.fact_passages")
    return {row["passage_id"]: row["persons"] for row in rows}


async def test_every_message_of_several_datasets_is_counted_where_it_went(owner, feed) -> None:
    report = await feed.load(
        await feed.take(
            gate("north", 1, label="N"),
            gate("north", 0, label="late"),
            gate("north", 1, label="N"),
            passage("p1", gate_id="south"),
            passage("p2", persons=0),
            remark("fine"),
            remark("x" * 41),
            envelope("unheard", 0, of=1),
            b"{",
        ),
        await feed.take(tariff("day", 5), remark("fine"), None, partition=1),
    )
    assert report.ledgers == {
        "gates": Ledger(read=3, inserted=1, duplicates=1, superseded=1),
        "tariffs": Ledger(read=1, inserted=1),
        "passages": Ledger(read=2, inserted=1, quarantined=1, filled=1, inferred=1),
        "remarks": Ledger(read=3, inserted=2, quarantined=1),
    }
    assert (report.messages, report.loaded, report.dead, report.skipped) == (12, 5, 5, 2)
    assert await letters(owner) == [
        (4, "persons: greater_than_or_equal_to"),
        (6, "text: str_length"),
        (7, "no_contract"),
        (8, "invalid_json"),
        (2, "tombstone"),
    ]
    [noted] = await owner.fetch("SELECT * FROM metadata.stream_batches")
    assert (noted["partitions"], noted["first_offsets"], noted["next_offsets"]) == (
        [0, 1],
        [0, 0],
        [9, 3],
    )
    counts = await owner.fetch("SELECT * FROM metadata.dataset_counts")
    assert {row["dataset"]: Ledger(**{k: row[k] for k in Ledger.__slots__}) for row in counts} == (
        report.ledgers
    )


async def test_a_fact_points_to_the_version_that_came_with_it(owner, feed) -> None:
    await feed.load(await feed.take(tariff("day", 5, 0), gate("north")))
    report = await feed.load(await feed.take(tariff("day", 6, 10), passage("p1", 11, passed=11)))
    price = await owner.fetchval(
        "SELECT price FROM warehouse.fact_passages JOIN warehouse.dim_tariffs USING (tariff_key)"
    )
    assert price == 6
    assert report.ledgers["passages"].inferred == 0


@pytest.mark.parametrize("place", [0, 5, 11])
async def test_what_postgresql_refuses_is_buried_alone(owner, feed, place: int) -> None:
    sent = [passage(f"p{number}", persons=number + 1) for number in range(11)]
    sent.insert(place, passage(HUGE))
    report = await feed.load(await feed.take(*sent, remark("as well")))
    assert report.ledgers["passages"] == Ledger(
        read=12, inserted=11, quarantined=1, filled=1, inferred=2
    )
    assert await letters(owner) == [(place, "refused_by_database")]
    assert await passages(owner) == {f"p{number}": number + 1 for number in range(11)}
    staged = "SELECT count(*) FROM staging."
    assert await owner.fetchval(f"{staged}passages") == 11
    assert await owner.fetchval(f"{staged}remarks") == 1


@pytest.mark.parametrize("newest", ["first", "last"])
async def test_rivals_on_both_sides_of_a_refused_row_are_ranked_as_without_it(
    owner, feed, newest: str
) -> None:
    minutes = (9, 1) if newest == "first" else (1, 9)
    before, after = (
        [
            passage("said", minute, persons=persons),
            passage("confirmed", minute, persons=5),
            gate("east", minute, label=f"{persons}"),
            tariff("night", persons, minute),
        ]
        for minute, persons in zip(minutes, (2, 3), strict=True)
    )
    filler = [passage(f"p{number}", persons=1) for number in range(8)]
    huge = [passage(HUGE), gate(HUGE), tariff(HUGE, 1)]
    report = await feed.load(await feed.take(*before, *filler, *huge, *after))
    assert report.ledgers == {
        "gates": Ledger(read=3, inserted=1, superseded=1, quarantined=1),
        "tariffs": Ledger(read=3, inserted=1, superseded=1, quarantined=1),
        "passages": Ledger(
            read=13, inserted=10, superseded=1, duplicates=1, quarantined=1, filled=1, inferred=2
        ),
    }
    won = 2 if newest == "first" else 3
    assert await passages(owner) == {
        "said": won,
        "confirmed": 5,
        **{f"p{number}": 1 for number in range(8)},
    }
    assert await owner.fetchval("SELECT label FROM warehouse.dim_gates WHERE gate_id = 'east'") == (
        f"{won}"
    )
    rows = await owner.fetch("SELECT price FROM warehouse.dim_tariffs WHERE tariff_id = 'night'")
    assert [row["price"] for row in rows] == [won]


async def test_where_the_newest_is_refused_the_next_one_holds(owner, feed) -> None:
    await owner.execute(
        "ALTER TABLE warehouse.fact_passages ADD CONSTRAINT few CHECK (persons < 100)"
    )
    report = await feed.load(
        await feed.take(
            *(passage("p1", minute, persons=persons) for minute, persons in enumerate((3, 4, 100))),
            passage("p2", persons=101),
            passage("p3", persons=1),
        )
    )
    assert report.ledgers["passages"] == Ledger(
        read=5, inserted=2, superseded=1, quarantined=2, inferred=2
    )
    assert await passages(owner) == {"p1": 4, "p3": 1}
    assert await letters(owner) == [(2, "refused_by_database"), (3, "refused_by_database")]


async def test_a_table_that_refuses_too_much_stops_the_stream(
    owner, feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_session, "MAX_REFUSED", 3)
    await owner.execute(
        "ALTER TABLE warehouse.fact_passages ADD CONSTRAINT none CHECK (persons < 0)"
    )
    batch = await feed.take(*(passage(f"p{number}") for number in range(8)))
    with pytest.raises(TerminalError, match="more than 3 rows of a batch of passages"):
        await feed.load(batch)
    assert await owner.fetchval("SELECT count(*) FROM metadata.dead_letters") == 0
    assert await owner.fetchval("SELECT sum(next_offset) FROM metadata.stream_offsets") == 0


async def test_rows_that_postgresql_refuses_together_are_not_all_buried(owner, feed) -> None:
    await owner.execute("CREATE UNIQUE INDEX by_hand ON warehouse.fact_passages (persons)")
    report = await feed.load(
        await feed.take(*(passage(f"p{number}", persons=number // 2 + 1) for number in range(6)))
    )
    assert report.ledgers["passages"] == Ledger(read=6, inserted=3, quarantined=3, inferred=2)
    assert sorted((await passages(owner)).values()) == [1, 2, 3]
    assert [reason for _, reason in await letters(owner)] == ["refused_by_database"] * 3


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        ("DROP TABLE warehouse.fact_passages", asyncpg.UndefinedTableError),
        (
            "ALTER TABLE staging.passages OWNER TO CURRENT_USER",
            asyncpg.InsufficientPrivilegeError,
        ),
        ("ALTER TABLE staging.passages DROP COLUMN persons", asyncpg.UndefinedColumnError),
    ],
)
async def test_a_database_that_is_not_as_it_should_be_buries_nothing(
    owner, feed, spoil: str, error: type[Exception]
) -> None:
    await owner.execute(spoil)
    batch = await feed.take(b"no JSON", passage("p1"), remark("one"))
    with pytest.raises(error):
        await feed.load(batch)
    assert await letters(owner) == []
    assert await owner.fetchval("SELECT count(*) FROM staging.remarks") == 0
    assert await owner.fetchval("SELECT next_offset FROM metadata.stream_offsets") == 0


async def test_messages_that_are_read_again_double_nothing(owner, feed) -> None:
    sent = [
        gate("north", 1, label="N"),
        gate("north", 2, label="M"),
        tariff("day", 5, 1),
        passage("p1", 1, persons=2),
        passage("p1", 1, persons=2),
        passage("p2", persons=0),
        remark("one"),
        remark("one"),
        b"{",
    ]
    once = await feed.load(await feed.take(*sent))
    before = await dump(owner, *TABLES)
    again = await feed.load(await feed.take(*sent, offsets=range(len(sent))), is_replay=True)
    assert await dump(owner, *TABLES) == before
    assert (once.dead, once.loaded, once.skipped) == (2, 5, 2)
    assert (again.dead, again.loaded, again.skipped) == (0, 5, 4)
    assert again.ledgers == {
        "gates": Ledger(read=2, unchanged=1, superseded=1),
        "tariffs": Ledger(read=1, unchanged=1),
        "passages": Ledger(read=3, unchanged=1, duplicates=1, quarantined=1),
        "remarks": Ledger(read=2, unchanged=2),
    }


def torture() -> list[bytes | None]:
    """Return messages that break parsers, each in a place that a plain one could have."""

    def around(text: bytes) -> bytes:
        return b'{"source":"remarks","timestamp":"%b","payload":{"text":%b}}' % (
            at(0).encode(),
            text,
        )

    bodies = [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"[" * 90 + b"]" * 90,
        b"1" * 5_000,
        b"1e999999",
        b"-0.0",
        b"123456789012345678901234567890",
        b"NaN",
        b"-Infinity",
        b'"\\ud800"',
        b'"\\udc00\\ud800 x"',
        b'"\\u0000"',
        b'"\xff\xfe"',
        b'"' + b"x" * 1_000_000 + b'"',
        '"\u202e \U0001f600 \u0085"'.encode(),
        b'"\\\\N \\t \\n"',
        b"null",
        b'""',
        b"[]",
        b"{}",
        b"true",
        b'1,"text":2',
        b'1,"Text":2',
        b'"ok","extra":"' + b"y" * 1_000_000 + b'"',
        b'"ok","":{"":[]},"a.b":1,"a":{"b":2}',
        b'"ok","k":"\\u0000"',
        b'"ok","' + b"n" * 70_000 + b'":1',
        b'"ok",' + b",".join(b'"c%d":1' % number for number in range(2_000)),
    ]
    whole: list[bytes | None] = [
        None,
        b"",
        b" ",
        b"null",
        b"[]",
        b'"text"',
        b"7",
        b"{}",
        b"\xef\xbb\xbf",
        b"\x00",
        b"{" * 100_000,
        b'{"source":"remarks"}',
        b'{"source":"remarks","timestamp":"%b","payload":[]}' % at(0).encode(),
        b'{"source":"remarks","timestamp":"never","payload":{"text":"x"}}',
        b'{"source":"remarks","timestamp":9e99,"payload":{"text":"x"}}',
        b'{"source":"remarks","timestamp":"9999-12-31T23:59:59Z","payload":{"text":"x"}}',
        b'{"source":"\\ud800","timestamp":"%b","payload":{"text":"x"}}' % at(0).encode(),
        b'{"source":"remarks\\u0000","timestamp":"%b","payload":{"text":"x"}}' % at(0).encode(),
        b'{"source":"","timestamp":"%b","payload":{"text":"x"}}' % at(0).encode(),
    ]
    return [*whole, *map(around, bodies)]


@pytest.mark.parametrize("company", [0, 60], ids=["alone", "among ordinary ones"])
async def test_whatever_breaks_parsers_is_a_row_or_a_dead_letter(owner, feed, company: int) -> None:
    sent = torture()
    for number in range(company):
        sent.insert(2 * number % len(sent), remark(f"ordinary {number}"))
    once = await feed.load(await feed.take(*sent))
    assert once.messages == len(sent) == once.loaded + once.dead
    staged = await owner.fetch("SELECT _line FROM staging.remarks")
    buried = await owner.fetch("SELECT message_offset, reason, detail FROM metadata.dead_letters")
    rows = {row["_line"] for row in staged}
    dead = {row["message_offset"] for row in buried}
    assert (len(staged), len(buried)) == (len(rows), len(dead))
    assert rows | dead == set(range(len(sent)))
    assert not rows & dead
    assert all(row["reason"] and row["detail"] for row in buried)
    ordinary = {place for place, value in enumerate(sent) if value and b"ordinary" in value}
    assert (len(ordinary), ordinary - rows) == (company, set())
    kept = await owner.fetch("SELECT message_offset, message_value FROM metadata.dead_letters")
    assert all(row["message_value"] == sent[row["message_offset"]] for row in kept)
    before = await dump(owner, "staging.remarks", "metadata.dead_letters")
    again = await feed.load(await feed.take(*sent, offsets=range(len(sent))), is_replay=True)
    assert await dump(owner, "staging.remarks", "metadata.dead_letters") == before
    assert (again.loaded, again.dead, again.skipped) == (once.loaded, 0, once.dead)


async def test_postgresql_15_takes_a_batch_and_its_replay_alike(debian_server, make_feed) -> None:
    made = await debian_server.create()
    try:
        await bootstrap(made.owner_url, datasets=DATASETS)
        async with Pool(made.loader_url) as pool, StreamSession.open(pool) as opened:
            feed = make_feed(opened, None, SPECS)
            first = [passage("p1"), passage(HUGE), gate("north", 1, label="N"), tariff("day", 5)]
            await feed.load(await feed.take(*first, remark("one"), b"{"))
            late = [
                passage("p1", 5, persons=2),
                passage("p1", -1, persons=3),
                passage("p2", 5),
                gate("north", 5, label="N"),
                gate("north", 3, label="late"),
                tariff("day", 6, 9),
                tariff("day", 5, 2),
            ]
            reports = [
                await feed.load(await feed.take(*late)),
                await feed.load(await feed.take(gate("north", 4, label="late too"))),
                await feed.load(
                    await feed.take(*first, remark("one"), b"{", offsets=range(6)), is_replay=True
                ),
            ]
            connection = opened.connection
            assert await passages(connection) == {"p1": 2, "p2": 1}
            rows = await connection.fetch(
                "SELECT label, price FROM warehouse.dim_gates, warehouse.dim_tariffs"
                " ORDER BY valid_from"
            )
            assert [tuple(row) for row in rows] == [("N", 5), ("N", 6)]
            assert await letters(connection) == [(1, "refused_by_database"), (5, "invalid_json")]
        assert [each.ledgers for each in reports] == [
            {
                "passages": Ledger(read=3, inserted=1, updated=1, superseded=1, filled=1),
                "gates": Ledger(read=2, unchanged=1, superseded=1),
                "tariffs": Ledger(read=2, updated=1, superseded=1),
            },
            {"gates": Ledger(read=1, superseded=1)},
            {
                "passages": Ledger(read=2, superseded=1, quarantined=1, filled=2),
                "gates": Ledger(read=1, unchanged=1),
                "tariffs": Ledger(read=1, superseded=1),
                "remarks": Ledger(read=1, unchanged=1),
            },
        ]
    finally:
        await debian_server.drop(made)


async def test_a_replay_stages_what_is_missing_and_leaves_the_offsets(owner, feed) -> None:
    sent = [remark("one"), passage("p1"), remark("two"), passage("p2")]
    await feed.load(await feed.take(*sent[2:], offsets=(2, 3)))
    await feed.load(await feed.take(*sent, offsets=range(4)), is_replay=True)
    remarks, staged = await dump(owner, "staging.remarks", "staging.passages")
    assert (len(remarks), len(staged)) == (2, 2)
    assert await owner.fetchval("SELECT next_offset FROM metadata.stream_offsets") == 4
    assert await owner.fetchval("SELECT sum(messages) FROM metadata.stream_batches") == 6


async def test_a_time_that_no_calendar_has_does_not_stop_the_stream(owner, feed) -> None:
    # Microseconds where Kafka counts milliseconds.
    times = [1_790_000_000_000_000, 9_223_372_036_854_775_807, -1, 0]
    report = await feed.load(await feed.take(*[b"{"] * 4, timestamps_ms=times))
    assert report.dead == 4
    rows = await owner.fetch("SELECT message_time FROM metadata.dead_letters ORDER BY id")
    assert [row["message_time"] for row in rows] == [
        None,
        None,
        None,
        dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    ]


async def test_a_batch_of_many_rows_that_mostly_confirms_balances(
    owner, feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of 100,000 messages, which the settings allow.
    monkeypatch.setattr(merge, "BULK_ROWS", 50)
    names = [f"g{number}" for number in range(60)]
    await feed.load(await feed.take(*(gate(name, 0) for name in names)))
    for minute in (1, 2):  # the first with news, the second without
        label = {"label": "new"}
        sent = [gate(names[0], minute, **label), *(gate(name, minute) for name in names[1:])]
        report = await feed.load(await feed.take(*sent))
        news = 1 if minute == 1 else 0
        assert report.ledgers["gates"] == Ledger(read=60, updated=news, unchanged=60 - news)
    report = await feed.load(await feed.take(*(gate(name, 1, label="late") for name in names)))
    assert report.ledgers["gates"] == Ledger(read=60, superseded=60)


async def test_small_batches_leave_the_catalogue_as_it_was(owner, feed) -> None:
    async def size() -> int:
        found: int = await owner.fetchval("SELECT count(*) FROM pg_class")
        return found

    await feed.load(await feed.take(gate("north"), tariff("day", 1), passage("p"), remark("r")))
    before = await size()
    for number in range(50):
        sent = (gate("north", number), tariff("day", number, number), passage(f"p{number}"))
        await feed.load(await feed.take(*sent, remark("again")))
    assert await size() == before
    assert await owner.fetchval("SELECT count(*) FROM staging.remarks") == 51


async def test_a_session_on_a_connection_that_broke_gives_way_to_another(
    owner, pool: Pool, execution_id: int, make_feed
) -> None:
    async with StreamSession.open(pool) as first:
        feed = make_feed(first, execution_id, SPECS)
        await feed.load(await feed.take(gate("north"), passage("p1")))
        identity = await first.connection.fetchval("SELECT pg_backend_pid()")
        batch = await feed.take(gate("south"), passage("p2"))
        assert await owner.fetchval("SELECT pg_terminate_backend($1, 5000)", identity)
        with pytest.raises((asyncpg.PostgresError, *TRANSIENT)):
            await feed.load(batch)
    async with StreamSession.open(pool) as second:
        feed.session = second
        report = await feed.load(batch)
    assert report.loaded == 2
    assert await passages(owner) == {"p1": 1, "p2": 1}


async def test_a_pools_connection_serves_one_session_after_the_other(
    owner, database, execution_id: int, make_feed
) -> None:
    async with Pool(database.loader_url, size=1) as narrow:
        for number in range(3):
            async with StreamSession.open(narrow) as opened:
                feed = make_feed(opened, execution_id, SPECS)
                sent = (passage(f"p{number}"), gate("north", number))
                report = await feed.load(await feed.take(*sent))
                assert report.loaded == 2
    assert len(await passages(owner)) == 3


async def test_sessions_that_load_the_same_rows_at_once_lose_none(
    owner, pool: Pool, execution_id: int, make_feed
) -> None:
    rounds = 6

    async def consume(feed: Any, partition: int, turns: Callable[[int], list[bytes]]) -> int:
        retries = 0
        for number in range(rounds):
            batch = await feed.take(*turns(number), partition=partition)
            while True:
                try:
                    await feed.load(batch)
                except asyncpg.DeadlockDetectedError:
                    retries += 1
                else:
                    break
        return retries

    def mixed(number: int) -> list[bytes]:
        # Its fact names a gate that is new, its tariffs are locked before that is known.
        place = f"g{number}"
        return [passage(f"a{number}", gate_id=place), tariff("day", number, 2 * number)]

    def dimensions(number: int) -> list[bytes]:
        return [gate("north", number), gate(f"g{number}"), tariff("day", number, 2 * number + 1)]

    async with AsyncExitStack() as stack:
        feeds = [
            make_feed(
                await stack.enter_async_context(StreamSession.open(pool)), execution_id, SPECS
            )
            for _ in range(3)
        ]
        async with asyncio.timeout(60):
            await asyncio.gather(
                consume(feeds[0], 0, mixed),
                consume(feeds[1], 1, dimensions),
                consume(feeds[2], 2, lambda number: [*mixed(number), *dimensions(number)]),
            )
    assert await passages(owner) == {f"a{number}": 1 for number in range(rounds)}
    gates = await owner.fetch("SELECT gate_id, _is_inferred FROM warehouse.dim_gates")
    assert {row["gate_id"] for row in gates} == {"north", *(f"g{each}" for each in range(rounds))}
    assert not any(row["_is_inferred"] for row in gates)
    chain = await owner.fetch(
        "SELECT valid_from, valid_to, is_current FROM warehouse.dim_tariffs ORDER BY valid_from"
    )
    assert [row["valid_to"] for row in chain[:-1]] == [row["valid_from"] for row in chain[1:]]
    assert [row["is_current"] for row in chain] == [False] * (len(chain) - 1) + [True]
    last = await owner.fetchval("SELECT price FROM warehouse.dim_tariffs WHERE is_current")
    assert last == rounds - 1
    offsets = await owner.fetch(
        "SELECT next_offset FROM metadata.stream_offsets ORDER BY partition"
    )
    assert [row["next_offset"] for row in offsets] == [2 * rounds, 3 * rounds, 5 * rounds]


async def test_a_batch_of_which_one_partition_is_fenced_commits_nothing(owner, feed) -> None:
    parts = [await feed.take(remark("one"), b"{", partition=each) for each in (0, 1)]
    await feed.claim(1)  # as another consumer would
    with pytest.raises(FencedError):
        await feed.load(*parts)
    tables = ("staging.remarks", "metadata.dead_letters", "metadata.stream_batches")
    assert await dump(owner, *tables) == [[], [], []]
    offsets = await owner.fetch("SELECT DISTINCT next_offset FROM metadata.stream_offsets")
    assert [row["next_offset"] for row in offsets] == [0]
