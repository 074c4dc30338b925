"""Records and rows as messages: a JSON envelope each, keyed by the dataset's key.

    {"source": "sales_data", "timestamp": "2026-11-23T07:51:28.123456Z", "payload": {...}}

The key is `sales_data:` and the values of the contract's key, so that what is said of one row
stays in one partition, in order. Without them it is `sales_data:#` and a digest of the payload.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any

import polars as pl

from infra.postgres.identifiers import slug
from schemas.dataset import Spec
from tasks.clean import Reject
from tasks.json_records import write_json
from tasks.refusals import Message
from tasks.source import RowSource

PARCEL_RECORDS = 5_000
_DIGEST_BYTES = 16
_VALUE, _KEY = "value", "key"


@dataclass(frozen=True, slots=True)
class Parcel:
    """Some of a source's rows, as messages, and those among them that are none."""

    messages: list[Message]
    rejects: tuple[Reject, ...] = ()
    read_bytes: int = 0
    """Bytes of the source read so far."""


def parcel_rows(source: RowSource, table: str, spec: Spec | None) -> Iterator[Parcel]:
    """Yield a file's rows, block by block; a payload has the header's names and text cells.

    An empty cell is null. The timestamp is the file's. A row that cannot be split into cells is
    a reject of its parcel. Reading it raises what the source's reader raises.
    """
    for block in source:
        rejects = tuple(
            Reject(each.line, each.reason, None, each.detail, each.raw) for each in block.broken
        )
        messages = wrap_cells(block.cells, table, spec, source.modified_at)
        yield Parcel(messages, rejects, block.read_bytes)


def parcel_records(
    records: Sequence[Any], table: str, spec: Spec | None, fetched_at: dt.datetime
) -> Iterator[Parcel]:
    """Yield an API's records as they were fetched, numbers digit for digit, some at a time."""
    for start in range(0, len(records), PARCEL_RECORDS):
        yield Parcel(wrap_records(records[start : start + PARCEL_RECORDS], table, spec, fetched_at))


def wrap_cells(
    cells: pl.DataFrame, table: str, spec: Spec | None, timestamp: dt.datetime
) -> list[Message]:
    """Return a message for each row of a frame of text cells."""
    payload = pl.struct(pl.all()).struct.json_encode()
    frame = cells.select(
        pl.concat_str(pl.lit(_opening(table, timestamp)), payload, pl.lit("}"))
        .cast(pl.Binary)
        .alias(_VALUE),
        _key(cells.columns, spec).cast(pl.Binary).alias(_KEY),
    )
    values: list[bytes] = frame[_VALUE].to_list()
    return _join(_keys(frame[_KEY].to_list(), values, table, timestamp), values)


def wrap_records(
    records: Sequence[Any], table: str, spec: Spec | None, timestamp: dt.datetime
) -> list[Message]:
    """Return a message for each record of an API, whatever it is.

    records: as `tasks.json_records.read_json` gives them.
    """
    opening = _opening(table, timestamp)
    # Half of a surrogate pair is in no UTF-8: it stays as JSON's own escape.
    values = [
        f"{opening}{write_json(each)}}}".encode("utf-8", "backslashreplace") for each in records
    ]
    keys = [_record_key(each, spec) for each in records]
    return _join(_keys(keys, values, table, timestamp), values)


def _opening(table: str, timestamp: dt.datetime) -> str:
    when = timestamp.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f'{{"source":{json.dumps(table)},"timestamp":"{when}","payload":'


def _record_key(record: Any, spec: Spec | None) -> bytes | None:
    """Return the values of the contract's key as `_key` does, where the record has them all."""
    if spec is None or not spec.key or not isinstance(record, dict):
        return None
    values = []
    for name in spec.key:
        value = record[name] if name in record else _search(record, name)
        if value is None or isinstance(value, dict):
            return None
        text = (str(value) if isinstance(value, str) else write_json(value)).strip()
        if not text:
            return None
        values.append(text)
    if len(values) > 1:
        values = [each.replace("\\", "\\\\").replace("|", "\\|") for each in values]
    return "|".join(values).encode("utf-8", "backslashreplace")


def _search(record: dict[str, Any], name: str) -> Any:
    """Return the value that a column of that name would have, once the record is flattened."""
    alike = [value for path, value in _leaves(record, ()) if _column(path) == name]
    return alike[0] if len(alike) == 1 else None


def _leaves(
    record: dict[str, Any], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


@lru_cache(maxsize=4096)
def _column(path: tuple[str, ...]) -> str:
    return slug("_".join(path))


def _key(columns: Sequence[str], spec: Spec | None) -> pl.Expr:
    """Return the key's values, joined by a bar; null where one is empty or not to be found."""
    nothing = pl.lit(None, dtype=pl.String)
    named = [_find(name, columns) for name in spec.key] if spec else []
    if not named or None in named:
        return nothing
    values = [pl.col(name).str.strip_chars() for name in named if name is not None]
    if len(values) > 1:
        # Keys that differ stay different: a compacted topic keeps one message a key.
        values = [
            each.str.replace_all("\\", "\\\\", literal=True).str.replace_all(
                "|", "\\|", literal=True
            )
            for each in values
        ]
    return pl.concat_str(
        [pl.when(each != "").then(each) for each in values], separator="|", ignore_nulls=False
    )


def _find(name: str, columns: Sequence[str]) -> str | None:
    """Return the column that is the contract's, if exactly one is; as tasks.clean.bind does."""
    alike = [each for each in columns if slug(each) == name]
    if name in alike:
        return name
    return alike[0] if len(alike) == 1 else None


def _keys(
    keys: Sequence[bytes | None], values: Sequence[bytes], table: str, timestamp: dt.datetime
) -> Iterator[bytes]:
    start = f"{table}:".encode()
    before = len(_opening(table, timestamp))
    for key, value in zip(keys, values, strict=True):
        if key is None:
            digest = hashlib.blake2b(value[before:], digest_size=_DIGEST_BYTES)
            yield start + b"#" + digest.hexdigest().encode()
        else:
            yield start + key


def _join(keys: Iterator[bytes], values: Sequence[bytes]) -> list[Message]:
    # Stamped when they are sent: Kafka deletes by that time, and a file may be years old.
    return list(zip(keys, values, repeat(None)))
