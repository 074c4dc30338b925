"""One message read by itself: what it says, or the rule it broke.

The words about a broken message name no value of its payload: they stand in the open, where the
raw message beside them may be encrypted.
"""

import json
import re
from enum import StrEnum
from typing import Any, NamedTuple

from tasks.json_records import MAX_DEPTH, STEP, Number, write_json

_MAX_SOURCE_CHARACTERS = 200
_SHOWN_CHARACTERS = 60
_BLANKS = " \t\n\r"
"""What JSON allows between its parts."""
_MARK = "\ufeff"
_FIRST_SOURCE = re.compile(rb'\s*\{\s*"source"\s*:\s*"([^"\\\x00-\x1f]{1,800})"')


class Reason(StrEnum):
    """The rules that a message can break before its contract is asked."""

    TOMBSTONE = "tombstone"
    INVALID_UTF8 = "invalid_utf8"
    EMPTY = "empty"
    INVALID_JSON = "invalid_json"
    TOO_DEEP = "too_deep"
    AMBIGUOUS_KEY = "ambiguous_key"
    NOT_AN_OBJECT = "not_an_object"
    NO_SOURCE = "no_source"
    BAD_SOURCE = "bad_source"
    NO_PAYLOAD = "no_payload"
    PAYLOAD_NOT_AN_OBJECT = "payload_not_an_object"
    NO_TIMESTAMP = "no_timestamp"
    BAD_TIMESTAMP = "bad_timestamp"
    TIMESTAMP_IN_FUTURE = "timestamp_in_future"
    NUL_CHARACTER = "nul_character"


class Broken(NamedTuple):
    """A message that has no row."""

    position: int
    """Where it stands in its batch."""
    reason: Reason
    detail: str
    """What is wrong, without a value of the payload."""
    source: str | None = None
    """The source that it names, where that could be read."""


class Message(NamedTuple):
    """A whole message: its payload as the paths and the texts of its cells."""

    position: int
    source: str
    time: str | None
    """The cell of its timestamp."""
    is_quoted: bool
    """Whether the timestamp is a JSON string."""
    paths: tuple[str, ...]
    texts: list[str | None]
    has_nul: bool
    """Whether a text holds a NUL character."""


class RefusedMessageError(Exception):
    """One message broke a rule; `read_message` makes a Broken of it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """Keep the rule beside the words."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def read_message(position: int, value: bytes | None) -> Message | Broken:
    """Return what the message says, or the first rule it breaks; no message makes this raise."""
    if value is None:
        return Broken(position, Reason.TOMBSTONE, "the message has no value (a tombstone)")
    try:
        envelope = parse_envelope(value)
        source = _read_source(envelope)
    except RefusedMessageError as refused:
        return Broken(position, refused.reason, refused.detail, _guess_source(value))
    try:
        return _read_cells(position, source, envelope, value)
    except RefusedMessageError as refused:
        return Broken(position, refused.reason, refused.detail, source)


def write_text(value: Any, *, depth: int = 0) -> str | None:
    """Return the text of a JSON value's cell, as `tasks.extract_frame` gives it.

    depth: of the value in its record; RecursionError for a list that goes deeper than MAX_DEPTH.
    """
    if value is None:
        return None
    # A Number among the texts would keep the garbage collector busy.
    text = str(value) if isinstance(value, str) else write_json(value, depth=depth)
    if text.isascii():
        return text or None
    # Half of a surrogate pair is legal in JSON and in no UTF-8; it stays as its escape.
    return text.encode("utf-8", "backslashreplace").decode()


def show_name(name: str) -> str:
    """Return a key in quotes as a message about it can hold it, cut where it is long."""
    shown = "".join(each if each.isprintable() else "?" for each in name[:_SHOWN_CHARACTERS])
    return f"'{shown}'" if len(name) <= _SHOWN_CHARACTERS else f"'{shown}…'"


def parse_envelope(value: bytes) -> dict[str, Any]:
    """Return the envelope with its numbers as text; raises RefusedMessageError."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        detail = f"byte {error.start + 1:,} of the message is no UTF-8"
        raise RefusedMessageError(Reason.INVALID_UTF8, detail) from None
    text = text.removeprefix(_MARK)
    if not text.strip(_BLANKS):
        raise RefusedMessageError(Reason.EMPTY, "the message is empty")
    try:
        envelope = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        detail = f"the message is no JSON at character {error.pos + 1:,}"
        raise RefusedMessageError(Reason.INVALID_JSON, detail) from None
    except RecursionError:
        detail = f"the message is nested more than {MAX_DEPTH} levels deep"
        raise RefusedMessageError(Reason.TOO_DEEP, detail) from None
    if not isinstance(envelope, dict):
        raise RefusedMessageError(Reason.NOT_AN_OBJECT, "the message is no JSON object")
    return envelope


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) == len(pairs):
        return read
    seen: set[str] = set()
    twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value] # set.add has no value, and that is the point
    raise RefusedMessageError(
        Reason.AMBIGUOUS_KEY, f"the message names the key {show_name(twice)} twice in one object"
    )


_DECODER = json.JSONDecoder(
    parse_float=Number,
    parse_int=Number,
    parse_constant=Number,
    object_pairs_hook=_read_object,
)


def _read_source(envelope: dict[str, Any]) -> str:
    source = envelope.get("source")
    if not isinstance(source, str) or isinstance(source, Number) or not source.strip():
        raise RefusedMessageError(Reason.NO_SOURCE, "the envelope's source is missing or no text")
    if len(source) > _MAX_SOURCE_CHARACTERS or not source.isprintable():
        detail = (
            f"the envelope's source is longer than {_MAX_SOURCE_CHARACTERS} characters or holds "
            "characters that cannot be shown"
        )
        raise RefusedMessageError(Reason.BAD_SOURCE, detail)
    return source


def _read_payload(envelope: dict[str, Any]) -> dict[str, Any]:
    payload = envelope.get("payload")
    if payload is None:
        raise RefusedMessageError(Reason.NO_PAYLOAD, "the envelope has no payload")
    if not isinstance(payload, dict):
        detail = "the envelope's payload is no JSON object"
        raise RefusedMessageError(Reason.PAYLOAD_NOT_AN_OBJECT, detail)
    return payload


def _read_cells(position: int, source: str, envelope: dict[str, Any], value: bytes) -> Message:
    payload = _read_payload(envelope)
    paths: list[str] = []
    texts: list[str | None] = []
    nested = []
    try:
        # As pandas orders them: the record's own values, then those of its objects.
        for key, each in payload.items():
            if isinstance(each, dict):
                nested.append((key, each))
            else:
                paths.append(key)
                texts.append(write_text(each, depth=1))
        for key, each in nested:
            _flatten(key, each, paths, texts, depth=1)
    except RecursionError:
        detail = f"the payload is nested more than {MAX_DEPTH} levels deep"
        raise RefusedMessageError(Reason.TOO_DEEP, detail) from None
    time = envelope.get("timestamp")
    return Message(
        position=position,
        source=source,
        time="" if isinstance(time, dict | list) else write_text(time),
        is_quoted=type(time) is str,
        paths=tuple(paths),
        texts=texts,
        # JSON has no other spelling for it.
        has_nul=b"\\u0000" in value and any("\0" in text for text in texts if text),
    )


def _flatten(
    path: str, members: dict[str, Any], paths: list[str], texts: list[str | None], *, depth: int
) -> None:
    # As deep as `write_json` counts: the record is level 0.
    if members and depth >= MAX_DEPTH:
        raise RecursionError
    for key, each in members.items():
        inner = join_path(path, key)
        if isinstance(each, dict):
            _flatten(inner, each, paths, texts, depth=depth + 1)
        else:
            paths.append(inner)
            texts.append(write_text(each, depth=depth + 1))


def join_path(path: str, key: str) -> str:
    """Return the path of an object's member; pandas gives what stands in "" its own name alone."""
    return f"{path}{STEP}{key}" if path else key


def _guess_source(value: bytes) -> str | None:
    """Return the source that a message names first, however the rest of it reads."""
    found = _FIRST_SOURCE.match(value)
    try:
        return _read_source({"source": found.group(1).decode()}) if found else None
    except (UnicodeDecodeError, RefusedMessageError):
        return None
