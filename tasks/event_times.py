"""The timestamps of envelopes as times in UTC."""

import datetime as dt

import polars as pl

from tasks.cast import FIRST_DAY, LAST_DAY
from tasks.envelope_json import Reason

TOLERANCE = dt.timedelta(days=1)
"""How far ahead of this clock a message may be. The newest version of a row wins: one message from
next year would shut out all that come until then."""
_RFC_3339 = (
    r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})\z"
)
_COMMON = "%Y-%m-%dT%H:%M:%S.%6fZ"
"""The spelling that Polars reads three times as fast as all the others."""
_DETAILS = {
    Reason.NO_TIMESTAMP: "the envelope has no timestamp",
    Reason.BAD_TIMESTAMP: (
        "the envelope's timestamp is neither a time with its zone (RFC 3339, such as "
        "2026-11-23T07:51:28Z) nor a whole number of milliseconds since 1970, of the years "
        f"{FIRST_DAY.year} to {LAST_DAY.year}"
    ),
    Reason.TIMESTAMP_IN_FUTURE: "the envelope's timestamp is more than a day ahead of the clock",
}
_SECONDS_END = 100_000_000_000
"""A number below it is one of seconds: as milliseconds it is of before March 1973, and would make
its row older than any other."""
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - both ends of the calendar are in UTC
_FIRST = (dt.datetime.combine(FIRST_DAY, dt.time.min) - _EPOCH) // dt.timedelta(microseconds=1)
_LAST = (dt.datetime.combine(LAST_DAY, dt.time.max) - _EPOCH) // dt.timedelta(microseconds=1)


def read_times(
    texts: pl.Series, is_quoted: pl.Series, *, now: dt.datetime
) -> tuple[pl.Series, list[tuple[int, Reason, str]]]:
    """Return the times, and of each text that is none: its row, the rule it breaks, the detail.

    texts: String, the cells of the timestamps. is_quoted: Boolean, whether each was a JSON string.
    The times are Datetime("us", "UTC"), null where there is none; what is finer than a microsecond
    is cut off, and a leap second is the second after it.
    """
    kind = pl.Datetime("us", "UTC")
    # As integers: what lies beyond Python's calendar cannot be asked for.
    counts = texts.str.strptime(pl.Datetime("us"), _COMMON, strict=False).to_physical()
    if counts.has_nulls():
        others = texts.set(counts.is_not_null(), None)
        counts = counts.fill_null(others.str.strptime(kind, "%+", strict=False).to_physical())
    # The parsers alone take less than a whole time.
    counts = counts.set(~(texts.str.contains(_RFC_3339) & is_quoted), None)
    if not is_quoted.all():
        milliseconds = texts.cast(pl.Int64, strict=False)
        is_one = milliseconds.is_between(_SECONDS_END, _LAST // 1000).fill_null(value=False)
        is_one &= ~is_quoted
        counts = (milliseconds.set(~is_one, None) * 1000).zip_with(is_one, counts)
    counts = counts.set(~counts.is_between(_FIRST, _LAST), None)
    newest = (now + TOLERANCE - _EPOCH.replace(tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    is_early = (counts > newest).fill_null(value=False)
    wrong = [(row, Reason.TIMESTAMP_IN_FUTURE) for row in is_early.arg_true().to_list()]
    for row in counts.is_null().arg_true().to_list():
        is_missing = texts[row] is None and not is_quoted[row]
        wrong.append((row, Reason.NO_TIMESTAMP if is_missing else Reason.BAD_TIMESTAMP))
    times = counts.set(is_early, None).cast(kind)
    return times, [(row, reason, _DETAILS[reason]) for row, reason in wrong]
