"""Which timestamps of envelopes are times, and which moment they are."""

import datetime as dt

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.event_times import read_times

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def read(*texts: str | None, quoted: bool = True) -> list[dt.datetime | str | None]:
    """Return each time, or the rule it breaks."""
    times, wrong = read_times(
        pl.Series(texts, dtype=pl.String),
        pl.Series([quoted] * len(texts), dtype=pl.Boolean),
        now=NOW,
    )
    assert times.dtype == pl.Datetime("us", "UTC")
    said: list[dt.datetime | str | None] = times.to_list()
    for row, reason, detail in wrong:
        assert said[row] is None
        assert detail.startswith("the envelope")
        said[row] = str(reason)
    assert None not in said
    return said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T07:51:28Z", "2026-11-23T07:51:28"),
        ("2026-11-23T07:51:28.1Z", "2026-11-23T07:51:28.100"),
        ("2026-11-23T07:51:28.123Z", "2026-11-23T07:51:28.123"),
        ("2026-11-23T07:51:28.123456Z", "2026-11-23T07:51:28.123456"),
        ("2026-11-23T07:51:28.123456999Z", "2026-11-23T07:51:28.123456"),
        ("1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999"),
        ("2026-11-23 07:51:28.123456Z", "2026-11-23T07:51:28.123456"),
        ("2026-11-23t07:51:28z", "2026-11-23T07:51:28"),
        ("2026-11-23T07:51:28.123456+05:30", "2026-11-23T02:21:28.123456"),
        ("2026-11-23T07:51:28-00:00", "2026-11-23T07:51:28"),
        ("2026-11-23T00:30:00-23:59", "2026-11-24T00:29:00"),
        ("2024-02-29T00:00:00.000000Z", "2024-02-29T00:00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00"),
        ("2016-12-31T23:59:60.500000Z", "2017-01-01T00:00:00.500"),
        ("1000-01-01T00:00:00Z", "1000-01-01T00:00:00"),
        ("0999-12-31T23:30:00-01:00", "1000-01-01T00:30:00"),
        ("2026-11-24T12:00:00Z", "2026-11-24T12:00:00"),
    ],
)
def test_a_time_with_its_zone_is_a_moment_in_utc(text, expected) -> None:
    assert read(text) == [dt.datetime.fromisoformat(f"{expected}+00:00")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "now",
        "2026-11-23",
        "2026-11-23T07:51Z",
        "2026-11-23T07:51:28",
        "2026-11-23T07:51:28.123456",
        "2026-11-23T07:51:28.Z",
        "2026-11-23T07:51:28.1234567890Z",
        "2026-11-23T07:51:28,123456Z",
        "2026-11-23T07:51:28.123456+0530",
        "2026-11-23T07:51:28+05",
        "2026-11-23T07:51:28+24:00",
        "2026-11-23T07:51:28+05:60",
        "2026-11-23T07:51:28 UTC",
        "2026-11-23T07:51:28.123456ZZ",
        " 2026-11-23T07:51:28.123456Z",
        "2026-11-23T07:51:28.123456Z\n",
        "2026-1-23T07:51:28.123456Z",
        "26-11-23T07:51:28.123456Z",
        "+026-11-23T07:51:28.123456Z",
        " 026-11-23T07:51:28.123456Z",
        "-2026-11-23T07:51:28.123456Z",
        "2026/11/23T07:51:28.123456Z",
        "2026-02-30T07:51:28.123456Z",
        "2025-02-29T07:51:28Z",
        "2026-13-01T07:51:28Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T07:60:28.123456Z",
        "2026-11-23T07:51:61.123456Z",
        "0000-01-01T00:00:00Z",
        "0999-12-31T23:59:59.999999Z",
        "1000-01-01T00:00:00+00:01",
        "10000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999-00:01",
        "\uff12026-11-23T07:51:28Z",
        "1763884288123",
        "2026-W48-1T07:51:28Z",
    ],
)
def test_a_text_in_any_other_form_is_none(text) -> None:
    assert read(text) == ["bad_timestamp"]
    assert read("2026-11-23T07:51:28.123456Z", text)[1] == "bad_timestamp"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("1763884288123", "2025-11-23T07:51:28.123"),
        ("100000000000", "1973-03-03T09:46:40"),
    ],
)
def test_a_whole_number_is_milliseconds_since_1970(number, expected) -> None:
    assert read(number, quoted=False) == [dt.datetime.fromisoformat(f"{expected}+00:00")]


@pytest.mark.parametrize(
    "number",
    [
        "0",
        "-0",
        "-1763884288123",
        "1763884288",
        "99999999999",
        "1763884288123.0",
        "1.763884288123e12",
        "1763884288123456",
        "253402300800000",
        "9223372036854775807",
        "9223372036854776",
        "9" * 400,
        "NaN",
        "true",
        "",
    ],
)
def test_any_other_number_is_no_time(number) -> None:
    assert read(number, quoted=False) == ["bad_timestamp"]


def test_a_missing_time_is_missing() -> None:
    assert read(None, quoted=False) == ["no_timestamp"]
    assert read(None, quoted=True) == ["bad_timestamp"]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("2026-11-24T12:00:00.000001Z", True),
        ("2026-11-24T11:00:00.1-01:00", True),
        ("9999-12-31T23:59:59.999999Z", True),
        ("1795521600001", False),
        ("253402300799999", False),
    ],
)
def test_a_time_more_than_a_day_ahead_is_refused(text, quoted) -> None:
    assert read(text, quoted=quoted) == ["timestamp_in_future"]


@given(
    st.lists(
        st.tuples(
            st.datetimes(
                min_value=dt.datetime(1000, 1, 3),  # noqa: DTZ001 - hypothesis adds the zones
                max_value=dt.datetime(2026, 11, 22),  # noqa: DTZ001 - likewise
                timezones=st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(
                    lambda offset: dt.timezone(offset // dt.timedelta(minutes=1) * MINUTE)
                ),
            ),
            st.sampled_from(["auto", "seconds", "milliseconds", "microseconds"]),
            st.booleans(),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_every_time_is_what_python_reads_whatever_stands_beside_it(moments) -> None:
    texts, expected = [], []
    for moment, precision, in_utc in moments:
        shown = moment.astimezone(dt.UTC) if in_utc else moment
        text = shown.isoformat(timespec=precision)
        expected.append(dt.datetime.fromisoformat(text))
        texts.append(text.replace("+00:00", "Z") if in_utc else text)
    assert read(*texts) == expected
