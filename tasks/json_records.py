"""JSON as rows: numbers digit for digit, nested objects as columns, nothing rounded or lost."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

MAX_DEPTH = 64
"""Objects and lists nested deeper are refused."""
PLAIN_JSON = json.JSONEncoder(ensure_ascii=False)
STEP = "\x1f"
"""Stands between the keys of a path while pandas flattens; json_normalize would let `a.b` and a
key written "a_b" overwrite each other."""


class Number(str):
    """A JSON number, or NaN or Infinity, digit for digit as it was sent."""

    __slots__ = ()


class Ambiguous(list[tuple[str, Any]]):
    """A JSON object that names a key twice; which one is meant nobody can tell, so all stay."""


def read_json(text: str) -> Any:
    """Return the JSON text's value, its numbers as text; raises JSONDecodeError, RecursionError."""
    return json.loads(
        text,
        parse_float=Number,
        parse_int=Number,
        parse_constant=Number,
        object_pairs_hook=_read_object,
    )


def flatten_records(records: tuple[Any, ...]) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """Return the objects as a frame of texts, and what is no object as (position, JSON text).

    The frame's index is the record's position, counted from 1. Columns: the keys of a path joined
    by underscores, lower-case; a second path that comes to the same name gets `_2`. Cells: a text
    as it is, anything else its JSON text, None for null and for what a record does not have.
    """
    broken: list[tuple[int, str]] = []
    flat: dict[int, dict[str, Any]] = {}
    for position, record in enumerate(records, start=1):
        if isinstance(record, dict):
            flat[position] = _write_leaves(record)
        else:
            broken.append((position, _clean(write_json(record))))
    frame = pd.json_normalize(list(flat.values()), sep=STEP).astype(object)
    frame = frame.set_axis(pd.Index(flat, dtype="int64", name="position"))
    frame = frame.where(frame.notna(), None)
    # A null where other records have an object says what its columns say: nothing is there.
    paths: list[str] = list(frame.columns)
    parents = [path for path in paths if any(each.startswith(path + STEP) for each in paths)]
    frame = frame.drop(columns=[path for path in parents if frame[path].isna().all()])
    return frame.set_axis(name_columns(list(frame.columns)), axis="columns"), broken


def write_json(value: Any, *, sort_keys: bool = False, depth: int = 0) -> str:
    """Return the value's JSON text with numbers as they were sent; RecursionError if too deep."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, (dict, Ambiguous)):
        pairs = list(value.items()) if isinstance(value, dict) else list(value)
        pairs = sorted(pairs, key=lambda pair: pair[0]) if sort_keys else pairs
        members = [
            f"{PLAIN_JSON.encode(key)}:{write_json(each, sort_keys=sort_keys, depth=depth + 1)}"
            for key, each in pairs
        ]
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        items = (write_json(each, sort_keys=sort_keys, depth=depth + 1) for each in value)
        return f"[{','.join(items)}]"
    return PLAIN_JSON.encode(value)


def _read_object(pairs: list[tuple[str, Any]]) -> Any:
    read = dict(pairs)
    return read if len(read) == len(pairs) else Ambiguous(pairs)


def _write_leaves(record: dict[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for name, value in record.items():
        key = _clean(name)  # pandas keeps no other names
        if isinstance(value, dict):
            written[key] = _write_leaves(value)
        elif value is None:
            written[key] = None
        else:
            written[key] = _clean(str(value) if isinstance(value, str) else write_json(value))
    return written


def _clean(text: str) -> str:
    # Half of a surrogate pair is legal in JSON and in no UTF-8; it stays as its escape.
    return text.encode("utf-8", "backslashreplace").decode()


def name_columns(paths: Sequence[str]) -> list[str]:
    """Return one name for each path, no two alike; the time it takes grows with their number."""
    names: list[str] = []
    taken: set[str] = set()
    counts: dict[str, int] = {}
    for path in paths:
        name = re.sub(r"\W+", "_", _clean(path).replace(STEP, "_").lower()) or "unnamed"
        unique, count = name, counts.get(name, 1)
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        counts[name] = count
        taken.add(unique)
        names.append(unique)
    return names
