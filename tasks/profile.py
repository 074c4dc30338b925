"""What a load looked like: rows and, by column, what is missing, distinct, smallest and largest."""

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from infra.postgres.connection import Connection
from tasks.discover_files import COMPRESSED, CSV_ENDINGS, FRAME_ENDINGS

_SERIAL = r"[0-9][0-9tz_.:+\- ]*"
"""A date, a time or a number, as `discover_files` takes it behind a dataset's name."""
_AMID = re.compile(rf"(^|[-_. ]+){_SERIAL}(?=$|[-_. ])")
_AT_END = re.compile(rf"[-_. ]?{_SERIAL}$")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\b")


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """The cells of one column of a load."""

    column: str
    rows: int
    """Cells that were looked at."""
    missing: int
    mistyped: int
    """Cells that held something that is not of the column's type."""
    distinct: int | None
    """Different values; None: not counted."""
    minimum: str | None
    maximum: str | None
    """As PostgreSQL would write them; None where there is none, or the column is personal."""


@dataclass(frozen=True, slots=True)
class LoadProfile:
    """One load of a file or an answer, or what the stream brought of a dataset in a UTC day."""

    dataset: str
    feed: str
    """Loads of one feed are compared with each other: the source without what changes in its
    name from load to load."""
    read: int
    duplicates: int
    quarantined: int
    columns: tuple[ColumnProfile, ...]


def name_feed(source: str) -> str:
    """Return the name of a source without what changes from load to load.

    source: a file's path, an address, or what a frame is called. Of a file's name its folder,
    dates, numbers that stand by themselves or at the end, and compression go:
    `/in/sales_data_2025-01-31.csv.gz` is of the feed `sales_data.csv`. An address loses its query.
    """
    if "://" in source:
        return re.split(r"[?#]", source, maxsplit=1)[0]
    name = PurePosixPath(source).name.lower()
    for each in COMPRESSED:
        name = name.removesuffix(each)
    ending = next((each for each in CSV_ENDINGS + FRAME_ENDINGS if name.endswith(each)), "")
    stem = name.removesuffix(ending)
    kept = _AT_END.sub("", _AMID.sub("", stem)).strip("-_. ")
    # A name that is nothing but a number is all there is to tell the source by.
    return f"{kept or stem}{ending}"


def add_profiles(first: LoadProfile, second: LoadProfile) -> LoadProfile:
    """Return the profile of both together; first: the earlier one, of the same dataset and feed.

    How many values differ is not known of both together.
    """
    earlier = {each.column: each for each in first.columns}
    later = {each.column: each for each in second.columns}
    both = [
        _add_columns(earlier[name], later[name])
        if name in earlier and name in later
        else earlier.get(name) or later[name]
        for name in earlier | later
    ]
    return LoadProfile(
        dataset=second.dataset,
        feed=second.feed,
        read=first.read + second.read,
        duplicates=first.duplicates + second.duplicates,
        quarantined=first.quarantined + second.quarantined,
        columns=tuple(both),
    )


def _add_columns(first: ColumnProfile, second: ColumnProfile) -> ColumnProfile:
    bounds = [
        each
        for each in (first.minimum, first.maximum, second.minimum, second.maximum)
        if each is not None
    ]
    if len({_is_date(each) for each in bounds}) > 1:
        # The contract has given the column another type meanwhile.
        bounds = [each for each in (second.minimum, second.maximum) if each is not None]
    ordered: list[str | None] = [*sorted(bounds, key=_order)] or [None]
    return ColumnProfile(
        column=second.column,
        rows=first.rows + second.rows,
        missing=first.missing + second.missing,
        mistyped=first.mistyped + second.mistyped,
        distinct=None,
        minimum=ordered[0],
        maximum=ordered[-1],
    )


def _is_date(written: str) -> bool:
    return _DATE.match(written) is not None


def _order(written: str) -> Any:
    """Return what to sort by: dates and times in UTC sort as text, all else are numbers."""
    return written if _is_date(written) else Decimal(written)


def write_columns(columns: tuple[ColumnProfile, ...]) -> str:
    """Return the columns as the JSON object that metadata.load_profiles keeps."""
    written = {each.column: asdict(each) for each in columns}
    for each in written.values():
        del each["column"]
    return json.dumps(written)


def read_columns(written: str) -> tuple[ColumnProfile, ...]:
    """Return what `write_columns` was given."""
    columns: Mapping[str, dict[str, Any]] = json.loads(written)
    return tuple(ColumnProfile(column=name, **each) for name, each in columns.items())


async def write_profile(
    connection: Connection,
    profile: LoadProfile,
    *,
    execution_id: int,
    batch_id: int | None = None,
    day: dt.date | None = None,
    at: dt.datetime | None = None,
) -> None:
    """Leave the profile in metadata.load_profiles, for later loads to be compared with.

    day: the UTC day of the stream that it is of; at: when it came (by default now).
    """
    await connection.execute(
        """
        INSERT INTO metadata.load_profiles
            (execution_id, batch_id, dataset, feed, read, duplicates, quarantined, columns, day,
             profiled_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10, clock_timestamp()))
        """,
        execution_id,
        batch_id,
        profile.dataset,
        profile.feed,
        profile.read,
        profile.duplicates,
        profile.quarantined,
        write_columns(profile.columns),
        day,
        at,
    )
