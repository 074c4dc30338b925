"""Dead letters, loaded after all: once, by the contracts of today, and never over a newer row."""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from deployments.bootstrap import bootstrap
from infra.postgres.connection import Pool
from schemas.dataset import Dataset, Role, column
from schemas.errors import TerminalError
from tasks.dead_letters import storable
from tasks.letter_choice import Choice
from tasks.letter_outcomes import Outcome
from tasks.replay_dead_letters import Replay, replay_dead_letters


class Readings(Dataset, table="readings", role=Role.FACT, key=("reading_id",)):
    """What a sensor measured."""

    reading_id: int = column(ge=1)
    value: int = column(ge=0)


class Notes(Dataset, table="notes", role=Role.STAGING):
    """What people wrote; without a key."""

    text: str = column(str_length={"min_value": 1, "max_value": 20})


class MendedReadings(Dataset, table="readings", role=Role.FACT, key=("reading_id",)):
    """What a sensor measured, below zero too."""

    reading_id: int = column(ge=1)
    value: int = column(ge=-100)


class MendedNotes(Dataset, table="notes", role=Role.STAGING):
    """What people wrote, at length."""

    text: str = column(str_length={"min_value": 1, "max_value": 200})


STRICT = {"readings": Readings.spec, "notes": Notes.spec}
MENDED = {"readings": MendedReadings.spec, "notes": MendedNotes.spec}
NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


def reading(number: int, value: object, minute: int = 0, *, source: str = "readings") -> bytes:
    return _envelope(source, minute, {"reading_id": number, "value": value})


def note(text: str, minute: int = 0) -> bytes:
    return _envelope("notes", minute, {"text": text})


def _envelope(source: str, minute: int, payload: dict[str, object]) -> bytes:
    time = (NOON + dt.timedelta(minutes=minute)).isoformat()
    return json.dumps({"source": source, "timestamp": time, "payload": payload}).encode()


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    await bootstrap(database.owner_url, datasets=(Readings, Notes))
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def group(owner, make_group) -> Any:
    """A group that still loads by the strict contracts."""
    return make_group(STRICT)


@pytest.fixture
def replay(pool: Pool, execution_id: int, owner) -> Callable:
    async def run(
        choice: Choice | None = None,
        *,
        dry_run: bool = False,
        specs=MENDED,
        chunk_letters: int = 100,
    ) -> Replay:
        return await replay_dead_letters(
            pool,
            specs,
            choice or Choice(),
            execution_id=execution_id,
            dry_run=dry_run,
            chunk_letters=chunk_letters,
        )

    return run


@pytest.fixture
def read(owner: asyncpg.Connection) -> Callable:
    async def rows(query: str) -> list[tuple]:
        return [tuple(row) for row in await owner.fetch(query)]

    return rows


READINGS = "SELECT reading_id, value FROM warehouse.fact_readings ORDER BY reading_id"
OUTCOMES = "SELECT message_offset, outcome, attempts FROM metadata.dead_letters ORDER BY id"
STATE = "SELECT d::text FROM metadata.dead_letters AS d ORDER BY id"


async def test_a_dry_run_counts_by_source_and_reason_and_changes_nothing(
    group, replay, read
) -> None:
    await group.load(reading(1, -1), reading(2, -2), b"{", note("x" * 50), reading(3, 3))
    before = await read(STATE)
    planned = await replay(dry_run=True)
    assert [(each.source, each.reason, each.letters) for each in planned.plan.counts] == [
        ("readings", "value: greater_than_or_equal_to", 2),
        ("notes", "text: str_length", 1),
        (None, "invalid_json", 1),
    ]
    assert str(planned) == "4 dead letters match."
    assert not planned.total
    assert await read(STATE) == before
    assert await read("SELECT count(*) FROM metadata.stream_batches") == [(1,)]


async def test_mended_letters_are_loaded_once_with_their_ledger(group, replay, read) -> None:
    await group.load(reading(1, -1), note("x" * 50), reading(2, 2))
    done = await replay()
    assert done.total == {Outcome.LOADED: 2}
    assert await read(READINGS) == [(1, -1), (2, 2)]
    assert await read("SELECT text, _source, _line FROM staging.notes") == [
        ("x" * 50, "data-stream/0", 1)
    ]
    assert await read(OUTCOMES) == [(0, "loaded", 1), (1, "loaded", 1)]
    assert await read(
        "SELECT messages, loaded, dead, skipped, partitions, first_offsets, next_offsets"
        " FROM metadata.stream_batches WHERE is_replay"
    ) == [(2, 2, 0, 0, [0], [0], [2])]
    assert await read(
        "SELECT c.dataset, c.read, c.inserted FROM metadata.dataset_counts AS c"
        " JOIN metadata.stream_batches AS b ON b.id = c.batch_id WHERE b.is_replay ORDER BY 1"
    ) == [("notes", 1, 1), ("readings", 1, 1)]
    again = await replay()
    assert str(again) == "No dead letter waits to be replayed."
    assert await read("SELECT count(*) FROM staging.notes") == [(1,)]


async def test_an_old_message_never_replaces_a_newer_row(group, replay, read) -> None:
    # 1 was corrected by a later message; of 2 another dead letter is newer, of 3 one repeats it.
    await group.load(
        *(reading(1, -1, minute=1), reading(1, 10, minute=2)),
        *(reading(2, -20, minute=1), reading(2, -21, minute=3)),
        *(reading(3, -3, minute=1), reading(3, -3, minute=1)),
        reading(4, -4),
    )
    done = await replay()
    assert await read(READINGS) == [(1, 10), (2, -21), (3, -3), (4, -4)]
    assert await read(OUTCOMES) == [
        (0, "superseded", 1),
        (2, "superseded", 1),
        (3, "loaded", 1),
        (4, "duplicate", 1),
        (5, "loaded", 1),
        (6, "loaded", 1),
    ]
    assert await read(
        "SELECT messages, loaded, dead, skipped FROM metadata.stream_batches WHERE is_replay"
    ) == [(6, 3, 0, 3)]
    assert str(done) == (
        "Of 6 dead letters 3 were loaded, 2 came too late for a newer row, 1 repeated another, 0 "
        "failed again."
    )
    assert (await replay()).plan.letters == 0


async def test_what_fails_again_keeps_its_first_reason_and_is_relayed_anew(
    group, replay, read, owner
) -> None:
    await group.load(reading(1, -1), reading(2, "many", source="rubbish"), reading(3, -500))
    await owner.execute("UPDATE metadata.dead_letters SET relayed_at = now(), relay_attempts = 2")
    done = await replay()
    assert (done.total, done.new_reasons) == (
        {Outcome.LOADED: 1, Outcome.FAILED: 2},
        {"no_contract": 1, "value: greater_than_or_equal_to": 1},
    )
    later = {**MENDED, "rubbish": MendedReadings.spec}
    await replay(specs=later)
    rows = await owner.fetch(
        "SELECT *, relayed_at IS NULL AS is_to_be_relayed FROM metadata.dead_letters ORDER BY id"
    )
    loaded, mistyped, too_low = rows
    assert (loaded["outcome"], loaded["is_to_be_relayed"]) == ("loaded", False)
    assert (loaded["reason"], json.loads(loaded["earlier_reasons"])) == (
        "value: greater_than_or_equal_to",
        [],
    )
    assert (mistyped["outcome"], mistyped["attempts"], mistyped["relay_attempts"]) == (
        "failed",
        2,
        0,
    )
    assert mistyped["is_to_be_relayed"]
    assert mistyped["source"] == "readings"
    assert mistyped["reason"] == "value: type"
    assert [each["reason"] for each in json.loads(mistyped["earlier_reasons"])] == [
        "no_contract",
        "no_contract",
    ]
    assert too_low["contract_version"] == MendedReadings.spec.contract_version
    assert [each["contract_version"] for each in json.loads(too_low["earlier_reasons"])] == [
        Readings.spec.contract_version,
        MendedReadings.spec.contract_version,
    ]


async def test_letters_at_the_cap_are_left_alone_and_counted(group, replay, read) -> None:
    await group.load(reading(1, -500), reading(2, -1))
    for _ in range(2):
        await replay(Choice(max_attempts=2), specs=STRICT)
    done = await replay(Choice(max_attempts=2))
    assert (done.plan.letters, done.plan.worn_out) == (0, 2)
    assert str(done) == (
        "0 dead letters match; 2 more were replayed 2 times or more and are left alone."
    )
    assert [attempts for _, _, attempts in await read(OUTCOMES)] == [2, 2]
    assert (await replay(Choice(max_attempts=3))).total == {Outcome.LOADED: 1, Outcome.FAILED: 1}


@pytest.mark.parametrize(
    ("choice", "offsets"),
    [
        (Choice(reason="value: greater_than_or_equal_to"), [0, 4]),
        (Choice(reason="value: *"), [0, 3, 4]),
        (Choice(reason="value"), []),
        (Choice(source="notes"), [2]),
        (Choice(source="readings", reason="value: type"), [3]),
        (Choice(since=NOON), [0, 1, 2, 3]),
        (Choice(until=NOON), [4]),
        (Choice(group="test_group"), [0, 1, 2, 3, 4]),
        (Choice(group="another"), []),
        (Choice(limit=2), [0, 1]),
        (Choice(), [0, 1, 2, 3, 4]),
    ],
)
async def test_a_choice_takes_what_matches_all_of_it(
    choice: Choice, offsets: list[int], group, replay, read, owner
) -> None:
    await group.load(reading(1, -1), b"{", note("x" * 50), reading(2, "a"), reading(3, -3))
    await owner.execute(
        "UPDATE metadata.dead_letters SET buried_at = $1 WHERE message_offset = 4",
        NOON - dt.timedelta(seconds=1),
    )
    planned = await replay(choice, dry_run=True)
    done = await replay(choice)
    assert planned.plan.letters == done.total.total() == len(offsets)
    assert [offset for offset, outcome, _ in await read(OUTCOMES) if outcome] == offsets


async def test_letters_are_chosen_by_their_ids_too(group, replay, read) -> None:
    await group.load(reading(1, -1), reading(2, -2), reading(3, -3))
    [_, (second,), _] = await read("SELECT id FROM metadata.dead_letters ORDER BY id")
    await replay(Choice(ids=(second, 999_999)))
    assert await read(READINGS) == [(2, -2)]


async def test_a_choice_that_matches_nothing_says_what_there_is(group, replay) -> None:
    await group.load(reading(1, -1), reading(2, -2), b"{")
    done = await replay(Choice(reason="value: le"))
    assert str(done) == (
        "No dead letter matches; there are 2 of 'value: greater_than_or_equal_to', 1 of "
        "'invalid_json'."
    )


@pytest.mark.parametrize(
    "given",
    [{"max_attempts": 0}, {"limit": 0}, {"since": NOON, "until": NOON}],
)
def test_a_choice_that_can_match_nothing_is_refused(given: dict) -> None:
    with pytest.raises(TerminalError):
        Choice(**given)


async def test_letters_of_several_groups_and_generations_have_their_own_ledgers(
    group, replay, read, owner, make_group
) -> None:
    await group.load(reading(1, -1), note("x" * 50))
    # The same places of a topic that was made anew hold other messages.
    await owner.execute(
        "UPDATE metadata.stream_offsets SET next_offset = 0, generation = generation + 1"
    )
    await group.load(reading(2, -2), note("y" * 50, minute=1))
    await owner.execute(
        """
        INSERT INTO metadata.dead_letters (consumer_group, topic, partition, message_offset,
            source, reason, detail, message_key, message_value)
        SELECT 'other_group', topic, partition, message_offset, source, reason, detail,
            message_key, message_value
        FROM metadata.dead_letters WHERE generation = 0
        """
    )
    done = await replay()
    assert done.total == {Outcome.LOADED: 6}
    assert await read(READINGS) == [(1, -1), (2, -2)]
    # The other group's letter is the same message: staged once.
    assert await read("SELECT text, count(*) FROM staging.notes GROUP BY text ORDER BY 1") == [
        ("x" * 50, 1),
        ("y" * 50, 1),
    ]
    assert await read(
        "SELECT consumer_group, messages, loaded FROM metadata.stream_batches"
        " WHERE is_replay ORDER BY 1"
    ) == [("other_group", 2, 2), ("test_group", 2, 2), ("test_group", 2, 2)]


async def test_a_row_that_postgresql_refuses_fails_and_the_others_are_loaded(
    group, replay, read, owner
) -> None:
    # The refused one is the newest of its key: the one before it wins.
    await group.load(*(reading(number, -number) for number in range(1, 21)))
    await group.load(reading(7, -50, minute=1), reading(7, -77, minute=2))
    await owner.execute("ALTER TABLE warehouse.fact_readings ADD CHECK (value <> -77)")
    done = await replay()
    assert done.total == {Outcome.LOADED: 20, Outcome.SUPERSEDED: 1, Outcome.FAILED: 1}
    assert done.new_reasons == {"refused_by_database": 1}
    assert (7, -50) in await read(READINGS)
    assert await read(
        "SELECT messages, loaded, skipped, dead FROM metadata.stream_batches WHERE is_replay"
    ) == [(22, 20, 1, 1)]


async def test_a_chunk_that_crashes_changes_nothing_and_the_next_run_goes_on(
    group, replay, read, owner
) -> None:
    await group.load(*(reading(number, -number) for number in range(1, 7)), note("x" * 50))
    await owner.execute(
        """
        CREATE FUNCTION public.crash() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF (SELECT count(*) FROM metadata.dead_letters WHERE outcome IS NOT NULL) > 4
             THEN RAISE EXCEPTION ''out of luck''; END IF; RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER crash AFTER UPDATE ON metadata.dead_letters
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.crash();
        """
    )
    with pytest.raises(asyncpg.RaiseError, match="out of luck"):
        await replay(chunk_letters=2)
    assert [outcome for _, outcome, _ in await read(OUTCOMES)] == ["loaded"] * 4 + [None] * 3
    assert [number for number, _ in await read(READINGS)] == [1, 2, 3, 4]
    assert await read("SELECT count(*) FROM metadata.stream_batches WHERE is_replay") == [(2,)]
    await owner.execute("DROP TRIGGER crash ON metadata.dead_letters")
    assert (await replay(chunk_letters=2)).total == {Outcome.LOADED: 3}
    assert [attempts for _, _, attempts in await read(OUTCOMES)] == [1] * 7
    assert await read("SELECT count(*) FROM staging.notes") == [(1,)]


async def test_replays_at_once_take_each_letter_once(group, replay, read) -> None:
    numbers = range(1, 61)
    await group.load(
        *(reading(number, -number) for number in numbers), *(note("x" * 50) for _ in numbers)
    )
    done = await asyncio.gather(*(replay(chunk_letters=7) for _ in range(3)))
    assert sum(each.total.total() for each in done) == 120
    assert [each.busy for each in done] == [0, 0, 0]
    assert {attempts for _, _, attempts in await read(OUTCOMES)} == {1}
    assert await read("SELECT count(*) FROM staging.notes") == [(60,)]
    assert await read("SELECT count(*) FROM warehouse.fact_readings") == [(60,)]


async def test_a_letter_that_is_held_elsewhere_is_waited_for(group, replay, read, owner) -> None:
    await group.load(reading(1, -1), reading(2, -2))
    async with owner.transaction():
        # As its relay holds it until Kafka has acknowledged it.
        await owner.execute("SELECT FROM metadata.dead_letters WHERE message_offset = 0 FOR UPDATE")
        running = asyncio.create_task(replay())
        async with asyncio.timeout(60):
            while await read(READINGS) != [(2, -2)]:  # noqa: ASYNC110 - no event tells of a row
                await asyncio.sleep(0.02)
        assert not running.done()
    done = await running
    assert (done.total, done.busy) == ({Outcome.LOADED: 2}, 0)
    assert await read(READINGS) == [(1, -1), (2, -2)]


async def test_a_letter_that_is_held_for_long_is_left_to_the_next_replay(
    group, replay, read, owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.replay_dead_letters._BUSY_SECONDS", 0.0)
    await group.load(reading(1, -1), reading(2, -2))
    async with owner.transaction():
        await owner.execute("SELECT FROM metadata.dead_letters WHERE message_offset = 0 FOR UPDATE")
        done = await replay()
    assert (done.total, done.busy) == ({Outcome.LOADED: 1}, 1)
    assert str(done).endswith(" 1 were held by another run: replay again to have them too.")
    assert (await replay()).total == {Outcome.LOADED: 1}


async def test_a_letter_that_could_not_be_read_before_goes_through(
    group, replay, read, owner
) -> None:
    await group.load(b"{", b"[")
    # As if the code that reads messages had been mended.
    await owner.execute(
        "UPDATE metadata.dead_letters SET message_value = $1 WHERE message_offset = 0",
        reading(1, 1),
    )
    assert (await replay()).total == {Outcome.LOADED: 1, Outcome.FAILED: 1}
    assert await read("SELECT source, outcome FROM metadata.dead_letters ORDER BY id") == [
        ("readings", "loaded"),
        (None, "failed"),
    ]


async def test_a_replay_rides_out_connections_that_break(group, replay, read, owner) -> None:
    await group.load(*(reading(number, -1) for number in range(1, 201)))
    running = asyncio.create_task(replay(chunk_letters=10))
    async with asyncio.timeout(60):
        for goal in (20, 100):
            while await owner.fetchval("SELECT count(*) FROM warehouse.fact_readings") < goal:  # noqa: ASYNC110 - no event tells of a row
                await asyncio.sleep(0.01)
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    assert (await running).total == {Outcome.LOADED: 200}
    assert {attempts for _, _, attempts in await read(OUTCOMES)} == {1}


@asynccontextmanager
async def losing_answers(url: str, count: int) -> AsyncIterator[str]:
    """Stand before PostgreSQL, and cut connections in place of its answer to their COMMIT."""
    parts = urlsplit(url)
    left = count
    writers: list[asyncio.StreamWriter] = []

    async def link(client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        server, requests = await asyncio.open_connection(parts.hostname, parts.port)
        writers.extend((answers, requests))

        async def forward() -> None:
            while data := await client.read(1 << 16):
                requests.write(data)
            requests.close()

        async def backward() -> None:
            nonlocal left
            while data := await server.read(1 << 16):
                if left and b"COMMIT\0" in data:
                    left -= 1
                    break
                answers.write(data)
            answers.transport.abort()

        with suppress(ConnectionError):
            await asyncio.gather(forward(), backward())

    async with await asyncio.start_server(link, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        yield url.replace(f":{parts.port}/", f":{port}/")
        for each in writers:
            each.transport.abort()
    assert left == 0


async def test_a_commit_whose_answer_is_lost_is_counted_once(group, database, owner, read) -> None:
    await group.load(*(reading(number, -1) for number in range(1, 31)), *[note("x" * 50)] * 10)
    async with losing_answers(database.loader_url, 3) as url, Pool(url) as far_pool:
        done = await replay_dead_letters(far_pool, MENDED, Choice(), dry_run=False, chunk_letters=7)
    assert done.total == {Outcome.LOADED: 40}
    assert {attempts for _, _, attempts in await read(OUTCOMES)} == {1}
    assert await read("SELECT count(*) FROM staging.notes") == [(10,)]


async def test_a_broken_message_shows_in_its_new_reason_as_text(replay, read, owner, group) -> None:
    source = "no\0such\ud800"
    assert storable(source) == "no\\x00such\\ud800"
    await group.load(_envelope(source, 0, {"a": 1}))
    assert (await replay()).total == {Outcome.FAILED: 1}
