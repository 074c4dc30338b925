"""Makes a row of metadata.pipeline_logs of a log line, whatever somebody put into the line."""

import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_TEXT = 16_000
"""Characters of one text in the table; the log file has more of it."""
MAX_FIELDS = 64_000
"""Characters of all that a line carries beside its event, as JSON."""
_MAX_BIGINT = 2**63 - 1
_MAX_BITS = 256
_MAX_DEPTH = 8
_MAX_NAME = 200
_NOT_FIELDS = frozenset({"event", "level", "timestamp"})

Row = tuple[dt.datetime, str, str, int | None, str | None, str, str]
"""logged_at, level, pipeline_name, execution_id, dataset, event, fields as JSON."""


class Line(NamedTuple):
    """A log line as it waits to be written."""

    created: float
    """When, in seconds since 1970."""
    level: str
    logger: str
    pipeline: str
    fields: Mapping[str, Any]


def shorten(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the same fields, with no text among them that is longer than the table takes."""
    for value in fields.values():
        if type(value) is str and len(value) > MAX_TEXT:
            return {
                name: cut(each) if isinstance(each, str) else each for name, each in fields.items()
            }
    return fields


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """Return the text, or its beginning and its end, where a traceback has what it is about."""
    if len(text) <= limit:
        return text
    half = limit // 2 - 30
    left_out = len(text) - 2 * half
    return f"{text[:half]} … ({left_out:,} characters are left out) … {text[-half:]}"


def make_row(line: Line) -> Row:
    """Return what PostgreSQL takes: no NUL, no half characters, no number beyond its types."""
    fields = dict(line.fields)
    execution_id = fields.get("execution_id")
    if type(execution_id) is int and 0 <= execution_id <= _MAX_BIGINT:
        del fields["execution_id"]
    else:
        execution_id = None
    dataset = fields.pop("dataset", None)
    pipeline = fields.pop("pipeline_name", None) or line.pipeline
    event = fields.get("event", "")
    shown = {name: value for name, value in fields.items() if name not in _NOT_FIELDS}
    return (
        _moment(line.created),
        _clean(line.level),
        _clean(cut(str(pipeline), _MAX_NAME)),
        execution_id,
        None if dataset is None else _clean(cut(str(dataset), _MAX_NAME)),
        _clean(cut(str(event))),
        _as_json({"logger": line.logger, **shown}),
    )


def _as_json(fields: Mapping[str, Any]) -> str:
    text = json.dumps(_plain(fields, _MAX_DEPTH), ensure_ascii=False)
    if len(text) > MAX_FIELDS:
        return json.dumps({"cut": cut(text)}, ensure_ascii=False)
    return text


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value.bit_length() <= _MAX_BITS:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if depth and isinstance(value, Mapping):
        return {_text(name): _plain(each, depth - 1) for name, each in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth - 1) for each in value]
    return _text(value)


def _text(value: object) -> str:
    try:
        return _clean(cut(str(value)))
    except Exception:  # noqa: BLE001 - a line is never lost by what it wanted to show
        return f"<a {type(value).__name__} that cannot be shown>"


def _clean(text: str) -> str:
    # PostgreSQL takes every character but this one, and no half of a surrogate pair.
    whole = text.replace("\0", "\\x00") if "\0" in text else text
    return whole if whole.isascii() else whole.encode(errors="backslashreplace").decode()


def _moment(created: float) -> dt.datetime:
    try:
        return dt.datetime.fromtimestamp(created, tz=dt.UTC)
    except (OverflowError, OSError, ValueError):
        return dt.datetime.now(dt.UTC)
