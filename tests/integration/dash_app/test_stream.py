"""The stream's page over a real PostgreSQL."""

import datetime as dt
from dataclasses import replace

import pytest

from dash_app import grids
from dash_app.pages import stream, stream_charts, stream_letters
from dash_app.queries import stream as ask
from dash_app.reader import AwayError

GROUP, TOPIC = "stream_processor_group", "data-stream"
OF = f"{TOPIC}/{GROUP}"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def claimed(loader, view) -> None:
    """Three partitions: one keeps up, one is far behind, one has gone silent."""
    now = view.now
    await loader.executemany(
        """
        INSERT INTO metadata.stream_offsets
            (consumer_group, topic, partition, next_offset, epoch, owner, updated_at)
        VALUES ($1, $2, $3, $4, 2, $5, $6)
        """,
        [
            (GROUP, TOPIC, 0, 1_234_567, "here:11", now),
            (GROUP, TOPIC, 1, 500, "here:11", now),
            (GROUP, TOPIC, 2, 7, "there:22", now - dt.timedelta(hours=3)),
        ],
    )
    await loader.executemany(
        """
        INSERT INTO metadata.stream_lag
            (consumer_group, topic, partition, measured_at, lag_messages, lag_seconds)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        [
            (GROUP, TOPIC, 0, now - dt.timedelta(seconds=3), 0, 0.0),
            (GROUP, TOPIC, 1, now - dt.timedelta(seconds=3), 4321, 95.0),
            (GROUP, TOPIC, 1, now - dt.timedelta(minutes=3), 9999, 99.0),
            (GROUP, TOPIC, 2, now - dt.timedelta(hours=3), 1, 1.0),
        ],
    )


async def _commit(loader, at, *, loaded=0, dead=0, skipped=0, seconds=0.5, group=GROUP):
    await loader.execute(
        """
        INSERT INTO metadata.stream_batches
            (consumer_group, topic, partitions, messages, loaded, dead, skipped, flush_seconds,
             committed_at)
        VALUES ($1, $2, '{0}', $3, $4, $5, $6, $7, $8)
        """,
        group,
        TOPIC,
        loaded + dead + skipped,
        loaded,
        dead,
        skipped,
        seconds,
        at,
    )


async def _bury(loader, offset, at, *, reason="quantity: ge", source="sales_data", **given: object):
    columns = {
        "consumer_group": GROUP,
        "topic": TOPIC,
        "partition": 0,
        "message_offset": offset,
        "source": source,
        "reason": reason,
        "detail": "'-5' is less than 1",
        "contract_version": "abc",
        "message_value": b"the secret of the message",
        "buried_at": at,
    } | given
    names = ", ".join(columns)
    marks = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    await loader.execute(
        f"INSERT INTO metadata.dead_letters ({names}) VALUES ({marks})",  # noqa: S608 - names of this test
        *columns.values(),
    )


async def test_without_a_consumer_the_page_says_how_to_start_one(view, read) -> None:
    for drawn in (
        await stream.draw_state(view, None),
        await stream.draw_partitions(view, None),
    ):
        assert stream_charts.NO_STREAM in read(drawn)
        assert "python -m flows.stream_processing_pipeline" in read(drawn)
    for draw in (
        stream_charts.draw_lag_messages,
        stream_charts.draw_lag_seconds,
        stream_charts.draw_throughput,
        stream_charts.draw_sizes,
        stream_charts.draw_flushes,
    ):
        figure = await draw(view, None, "1h")
        assert figure["data"] == []
        assert "No consumer has read" in figure["layout"]["annotations"][0]["text"]
    assert "buried" in read(await stream_letters.draw_reasons(view, None, "24h"))
    assert await stream_letters.fetch_letters(view, [None, "", "all"], None, 0, 50) == ([], 0)


async def test_each_part_fails_with_a_sentence_where_the_database_is_gone(view, gone) -> None:
    away = replace(view, reader=gone)
    for drawn in (
        stream.draw_state(away, OF),
        stream_charts.draw_lag_seconds(away, OF, "1h"),
        stream_charts.draw_sizes(away, OF, "1h"),
        stream_letters.draw_chart(away, OF, "24h"),
        stream_letters.draw_unsent(away),
    ):
        with pytest.raises(AwayError, match="cannot be reached"):
            await drawn


async def test_each_partition_shows_its_owner_and_state(view, claimed, read) -> None:
    rows = await ask.find_partitions(view.reader, ask.Stream(GROUP, TOPIC))
    assert [stream.judge(view, row) for row in rows] == ["KEEPING", "BEHIND", "SILENT"]
    shown = read(await stream.draw_partitions(view, None))
    assert "there:22" in shown
    assert "1,234,567" in shown
    assert "4,321" in shown
    assert "silent" in shown
    state = read(await stream.draw_state(view, None))
    assert "1 min 35 s" in state
    assert "4,321 messages" in state
    assert "1 silent" in state


async def test_who_measures_a_growing_lag_and_commits_nothing_is_silent(
    view, loader, claimed
) -> None:
    await loader.execute(
        "UPDATE metadata.stream_offsets SET updated_at = $1 WHERE partition = 1",
        view.now - dt.timedelta(minutes=5),
    )
    [_, row, _] = await ask.find_partitions(view.reader, ask.Stream(GROUP, TOPIC))
    # It shrinks: somebody reads, however slowly.
    assert stream.judge(view, row) == "BEHIND"
    await loader.execute(
        "UPDATE metadata.stream_lag SET lag_messages = 10000 "
        "WHERE partition = 1 AND measured_at > $1",
        view.now - dt.timedelta(minutes=1),
    )
    [_, row, _] = await ask.find_partitions(view.reader, ask.Stream(GROUP, TOPIC))
    assert stream.judge(view, row) == "SILENT"


async def test_a_partition_that_nobody_claimed_is_not_called_silent(view, loader, claimed) -> None:
    await loader.execute("UPDATE metadata.stream_offsets SET epoch = 0 WHERE partition = 2")
    [*_, row] = await ask.find_partitions(view.reader, ask.Stream(GROUP, TOPIC))
    assert stream.judge(view, row) == "UNOWNED"


async def test_lag_keeps_its_peaks_and_shows_a_gap_where_nothing_was_measured(view, loader) -> None:
    await loader.execute(
        "INSERT INTO metadata.stream_offsets (consumer_group, topic, partition, next_offset) "
        "VALUES ($1, $2, 0, 0)",
        GROUP,
        TOPIC,
    )
    # Every 5 s for six hours but for the middle two, with one high peak.
    await loader.execute(
        """
        INSERT INTO metadata.stream_lag
            (consumer_group, topic, partition, measured_at, lag_messages, lag_seconds)
        SELECT $1, $2, 0, at, CASE WHEN place = 100 THEN 77777 ELSE 3 END, 0.5
        FROM generate_series($3::timestamptz - interval '6 hours', $3, interval '5 seconds')
            WITH ORDINALITY AS g (at, place)
        WHERE at < $3 - interval '4 hours' OR at > $3 - interval '2 hours'
        """,
        GROUP,
        TOPIC,
        view.now,
    )
    figure = await stream_charts.draw_lag_messages(view, OF, "6h")
    [line] = figure["data"]
    assert 100 < len(line["x"]) <= 200
    assert max(value for value in line["y"] if value is not None) == 77777
    assert line["y"].count(None) == 1
    begin, end = figure["layout"]["xaxis"]["range"]
    assert end == view.local(view.now)
    assert begin <= line["x"][0]
    other = await stream_charts.draw_lag_messages(view, OF, "24h")
    # A zoom outlives a refresh, and not the choice of another time.
    assert figure["layout"]["uirevision"] != other["layout"]["uirevision"]


async def test_of_many_partitions_the_furthest_behind_are_drawn(view, loader) -> None:
    now = view.now
    await loader.executemany(
        "INSERT INTO metadata.stream_offsets (consumer_group, topic, partition, next_offset) "
        "VALUES ($1, $2, $3, 0)",
        [(GROUP, TOPIC, each) for each in range(20)],
    )
    await loader.executemany(
        "INSERT INTO metadata.stream_lag VALUES ($1, $2, $3, $4, $5, 1)",
        [(GROUP, TOPIC, each, now - dt.timedelta(seconds=5), each * 10) for each in range(20)],
    )
    figure = await stream_charts.draw_lag_seconds(view, OF, "15m")
    names = [each["name"] for each in figure["data"]]
    assert names == [f"partition {each}" for each in range(14, 20)]
    # Neither colour alone nor dash alone has to tell two lines apart.
    looks = {(each["line"]["color"], each["line"]["dash"]) for each in figure["data"]}
    assert len(looks) == len(names)


async def test_throughput_is_messages_a_second_by_outcome(view, loader, claimed) -> None:
    # A moment in the middle of a minute that is over.
    at = (view.now - dt.timedelta(minutes=5)).replace(second=30, microsecond=0)
    await _commit(loader, at, loaded=1200, dead=60, skipped=30, seconds=0.25)
    await _commit(loader, at, loaded=600, seconds=1.75)
    await _commit(loader, at, loaded=10**6, group="another")
    figure = await stream_charts.draw_throughput(view, OF, "1h")
    assert {each["name"]: each["y"] for each in figure["data"]} == {
        "loaded": [30.0],
        "skipped": [0.5],
        "dead letters": [1.0],
    }
    assert len({each["marker"]["pattern"]["shape"] for each in figure["data"]}) == 3
    sizes = await stream_charts.draw_sizes(view, OF, "1h")
    assert {each["name"]: each["y"] for each in sizes["data"]} == {
        "average": [945.0],
        "largest": [1290],
    }
    flushes = await stream_charts.draw_flushes(view, OF, "1h")
    assert {each["name"]: each["y"] for each in flushes["data"]} == {
        "average": [1.0],
        "longest": [1.75],
    }
    assert "600 messages" in str(await stream.draw_state(view, OF))


async def test_the_choice_shows_only_where_there_are_several(view, loader, claimed) -> None:
    choices, is_hidden = await stream.list_streams(view)
    assert (is_hidden, [each["value"] for each in choices]) == (True, [OF])
    await loader.execute(
        "INSERT INTO metadata.stream_offsets (consumer_group, topic, partition, next_offset, "
        "updated_at) VALUES ('a/b', 'other', 0, 0, now() - interval '1 day')"
    )
    choices, is_hidden = await stream.list_streams(view)
    assert (is_hidden, [each["value"] for each in choices]) == (False, [OF, "other/a/b"])
    assert await ask.choose_stream(view.reader, "other/a/b") == ask.Stream("a/b", "other")
    assert await ask.choose_stream(view.reader, "rubbish") == ask.Stream(GROUP, TOPIC)


async def test_letters_are_counted_by_reason_and_what_became_of_them(
    view, loader, claimed, read
) -> None:
    now = view.now
    for offset, outcome in enumerate([None, "failed", "loaded", "superseded", "duplicate"]):
        await _bury(loader, offset, now - dt.timedelta(hours=1), outcome=outcome)
    await _bury(loader, 10, now - dt.timedelta(hours=2), reason=HOSTILE, source=None)
    await _bury(loader, 11, now - dt.timedelta(days=3), reason="old")
    await _bury(loader, 12, now, reason="another's", consumer_group="another")
    [first, second] = await ask.count_letters(
        view.reader, ask.Stream(GROUP, TOPIC), now - dt.timedelta(days=1)
    )
    assert (first["letters"], first["waiting"], first["failed"]) == (5, 2, 1)
    assert (first["loaded"], first["late"], first["not_relayed"]) == (1, 2, 5)
    assert second["reason"] == HOSTILE
    shown = read(await stream_letters.draw_reasons(view, OF, "24h"))
    assert HOSTILE in shown
    assert "old" not in shown
    assert "old" in read(await stream_letters.draw_reasons(view, OF, "7d"))
    figure = await stream_letters.draw_chart(view, OF, "24h")
    assert {each["name"]: sum(each["y"]) for each in figure["data"]} == {
        "quantity: ge": 5,
        "&lt;img src=x onerror=alert(1)&gt;": 1,
    }


async def test_no_more_letters_are_counted_than_promised(
    view, loader, claimed, monkeypatch, read
) -> None:
    for offset in range(5):
        await _bury(loader, offset, view.now - dt.timedelta(minutes=offset))
    monkeypatch.setattr(ask, "COUNTED_LETTERS", 3)
    shown = read(await stream_letters.draw_reasons(view, OF, "24h"))
    assert "the newest 3 were counted" in shown
    rows, _ = await stream_letters.fetch_letters(view, [OF, "", "all"], None, 0, 50)
    assert len(rows) == 3


async def test_a_page_of_letters_never_shows_what_a_message_said(
    view, loader, claimed, read
) -> None:
    now = view.now - dt.timedelta(seconds=30)
    await _bury(loader, 1, now, reason="quantity: ge", execution_id=7)
    await _bury(loader, 2, now - dt.timedelta(minutes=1), reason="no_contract", outcome="loaded")
    of_persons = {"source": "customers", "reason": "email: match", "is_sealed": True}
    await _bury(loader, 3, now - dt.timedelta(minutes=2), **of_persons)
    rows, total = await stream_letters.fetch_letters(view, [OF, "", "all"], None, 0, 50)
    assert [row["place"].split()[-1] for row in rows] == ["1", "2", "3"]
    assert total is None
    shown = read(rows)
    assert "secret" not in shown
    assert [row["message"] for row in rows] == ["as received", "as received", "encrypted"]
    assert [row["letter"] for row in rows] == [row["id"] for row in rows]
    assert "/runs/7" in shown
    # A cell of a dataset with personal columns is hidden in the sentence too.
    assert rows[0]["detail"]["text"] == "'-5' is less than 1"
    assert rows[2]["detail"]["text"] == "'-•' is less than 1"
    waiting, _ = await stream_letters.fetch_letters(view, [OF, "", "waiting"], None, 0, 50)
    assert [row["id"] for row in waiting] == [rows[0]["id"], rows[2]["id"]]
    some, _ = await stream_letters.fetch_letters(view, [OF, "quan", "all"], None, 0, 50)
    assert [row["id"] for row in some] == [rows[0]["id"]]
    second, _ = await stream_letters.fetch_letters(view, [OF, "", "all"], None, 1, 2)
    assert [row["id"] for row in second] == [rows[1]["id"]]
    # As of a minute ago the newest was not there yet: what is read further down stays.
    then = replace(view, now=now - dt.timedelta(seconds=1))
    earlier, _ = await stream_letters.fetch_letters(then, [OF, "", "all"], None, 0, 50)
    assert [row["id"] for row in earlier] == [row["id"] for row in rows[1:]]
    names = {each.name for each in stream_letters.COLUMNS}
    assert names | {"id"} == set(rows[0])
    assert grids.PAGE_ROWS == 50


async def test_unsent_messages_are_counted_by_reason(view, loader, read) -> None:
    assert "Every message was sent" in read(await stream_letters.draw_unsent(view))
    await loader.execute(
        """
        INSERT INTO metadata.unsent_messages
            (execution_id, topic, source, message_value, reason, detail, attempts, sent_at)
        VALUES (1, 'data-stream', 'x', 'secret', 'too_large', '', 5, NULL),
               (1, 'data-stream', 'x', 'secret', 'timed_out', '', 1, NULL),
               (1, 'data-stream', 'x', 'secret', 'timed_out', '', 2, now())
        """
    )
    rows = await ask.count_unsent(view.reader)
    assert [(row["reason"], row["messages"]) for row in rows] == [
        ("timed_out", 1),
        ("too_large", 1),
    ]
    shown = read(await stream_letters.draw_unsent(view))
    assert "too_large" in shown
    assert "secret" not in shown


@pytest.mark.parametrize("given", [{}, {"of": "x", "range": "y", "letters": "z", "state": "?"}])
def test_the_page_takes_whatever_stands_in_the_address(given, read) -> None:
    assert "Is it keeping up?" in read(stream.lay_out(**given, other="1"))
