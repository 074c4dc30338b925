"""Messages that say the same things in the same order: their cells, read as columns.

A producer writes its messages alike. From one of them a pattern is made that fits every message
with the same source and the same keys in the same places, whatever its values, and no other: one
with a key more, less or twice, with a list, or broken, does not fit.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import polars as pl

from tasks.envelope_json import join_path, write_text
from tasks.json_records import Number, name_columns

_BLANKS = r"[ \t\n\r]*"
_INNER = r'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*'
_WORD = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false"
_UNSPELLABLE = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')
"""What a key can hold in more than one spelling, or in no text of UTF-8."""


class Form(StrEnum):
    """What a pattern takes for a value: its cell is the group, or nothing where that is null."""

    TEXT = rf'(?:"({_INNER})"|null)'
    WORD = rf"(?:({_WORD})|null)"
    """A number, true or false."""
    ANY = rf'(?:("{_INNER}"|{_WORD})|null)'
    """The message that the pattern was made from has null there. A text keeps its quotes."""
    TEXT_TIME = rf'"({_INNER})"'
    WORD_TIME = rf"({_WORD})"
    PASSED_OVER = rf'(?:"{_INNER}"|{_WORD}|null)'


# Rust's regex finds groups fast while a pattern has at most 16 of them and its "one-pass" automaton
# fits into a megabyte, and up to a hundred times slower beyond: wider messages are read in parts.
_MAX_GROUPS = 16
_MAX_STATES = 1_000
_VALUE_STATES = 45
_MAX_PARTS = 16
_LEAST_CAPTURED = 2
"""The timestamp and a cell: a frame without a column has no height."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value of the envelope that is no object."""

    form: Form
    path: str = ""
    """Where the payload has it."""
    is_nested: bool = False

    @property
    def is_time(self) -> bool:
        """Whether it is the envelope's timestamp."""
        return self.form in {Form.TEXT_TIME, Form.WORD_TIME}

    @property
    def is_captured(self) -> bool:
        """Whether its value is asked for."""
        return self.form is not Form.PASSED_OVER


@dataclass(frozen=True, slots=True)
class Cells:
    """What messages of one shape say."""

    times: pl.Series
    """String: the cell of each timestamp."""
    is_quoted: bool
    """Whether the timestamps are JSON strings."""
    payloads: pl.DataFrame
    """String columns, named and filled as `tasks.extract_frame` does it."""
    nul_rows: frozenset[int]
    """The rows in which a cell holds a NUL character."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a message looks like but for its values."""

    source: str
    leaves: tuple[Leaf, ...]
    """The captured values, in the order of the text."""
    parts: tuple[str, ...]
    """Patterns, each for what the one before it left of a message."""

    def match(self, texts: pl.Series) -> tuple[pl.Series, Cells]:
        """Return which of the texts have this shape (a mask), and what those say."""
        found: list[pl.Series] = []
        left, fits = texts, pl.repeat(value=True, n=len(texts), eager=True, dtype=pl.Boolean)
        for part in self.parts:
            groups = left.str.extract_groups(part).struct.unnest().get_columns()
            if len(self.parts) > 1:
                whole, *groups = groups
                fits &= whole.is_not_null()
                left = _cut_off(left, whole)
            found += groups
        time = next(place for place, each in enumerate(self.leaves) if each.is_time)
        fits &= found[time].is_not_null()
        if not fits.all():
            found = [each.filter(fits) for each in found]
        return fits, self._read(found, time)

    def _read(self, found: list[pl.Series], time: int) -> Cells:
        nul_rows: set[int] = set()
        cells = [
            _read_values(values, leaf.form, nul_rows)
            for values, leaf in zip(found, self.leaves, strict=True)
        ]
        # As pandas orders them: the record's own values, then those of its objects.
        places = [place for place in range(len(cells)) if place != time]
        places.sort(key=lambda place: self.leaves[place].is_nested)
        header = name_columns([self.leaves[place].path for place in places])
        return Cells(
            times=cells[time],
            is_quoted=self.leaves[time].form is Form.TEXT_TIME,
            payloads=pl.DataFrame([cells[place] for place in places], schema=header),
            nul_rows=frozenset(nul_rows),
        )


def learn_shape(envelope: dict[str, Any], text: str) -> Shape | None:
    """Return the shape of a whole message; None for one that has lists or is very wide.

    envelope: the text as `tasks.envelope_json` has parsed it.
    """
    try:
        pieces = list(_spell_envelope(envelope))
    except (_NoShapeError, RecursionError):
        return None
    captured = tuple(each for each in pieces if isinstance(each, Leaf) and each.is_captured)
    if len(captured) < _LEAST_CAPTURED or not any(each.is_time for each in captured):
        return None
    parts = _cut(pieces)
    if len(parts) > _MAX_PARTS or max(map(_count_states, parts)) > _MAX_STATES * 1.1:
        return None
    # A pattern that has to look for blanks everywhere takes a fifth longer.
    for blanks in ("", _BLANKS):
        shape = Shape(envelope["source"], captured, _write_patterns(parts, blanks))
        fits, _ = shape.match(pl.Series([text]))
        if fits.all():
            return shape
    return None  # the text has a key in escapes, or NaN


_Piece = str | Leaf
"""What a message is made of: text as a pattern has it, and values."""


class _NoShapeError(Exception):
    """This message has parts that no pattern is made for."""


def _spell_envelope(envelope: dict[str, Any]) -> Iterator[_Piece]:
    yield r"\{"
    for place, (key, value) in enumerate(envelope.items()):
        yield from _spell_key(key, place)
        if key == "source":
            yield _spell_text(value)
        elif key == "timestamp":
            if value is None:
                raise _NoShapeError
            yield Leaf(Form.WORD_TIME if isinstance(value, Number | bool) else Form.TEXT_TIME)
        elif key == "payload":
            yield from _spell_object(value, "", is_payload=True)
        else:
            yield from _spell_value(value, None)
    yield r"\}"


def _spell_object(
    members: dict[str, Any], path: str | None, *, is_payload: bool = False
) -> Iterator[_Piece]:
    """Spell an object; `path` is where the payload has it, None outside the payload."""
    yield r"\{"
    for place, (key, value) in enumerate(members.items()):
        yield from _spell_key(key, place)
        inner = None if path is None else join_path(path, key)
        yield from _spell_value(value, inner, is_nested=not is_payload)
    yield r"\}"


def _spell_value(value: Any, path: str | None, *, is_nested: bool = False) -> Iterator[_Piece]:
    if isinstance(value, dict):
        yield from _spell_object(value, path)
    elif isinstance(value, list):
        raise _NoShapeError
    elif path is None:
        yield Leaf(Form.PASSED_OVER)
    elif value is None:
        yield Leaf(Form.ANY, path, is_nested)
    else:
        form = Form.WORD if isinstance(value, Number | bool) else Form.TEXT
        yield Leaf(form, path, is_nested)


def _spell_key(key: str, place: int) -> Iterator[str]:
    if place:
        yield ","
    yield _spell_text(key)
    yield ":"


def _spell_text(text: str) -> str:
    if _UNSPELLABLE.search(text):
        raise _NoShapeError
    return pl.escape_regex(f'"{text}"')


def _cut(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Return the pieces in parts that are matched fast; all but the last end in a colon."""
    groups = sum(isinstance(each, Leaf) and each.is_captured for each in pieces)
    if groups <= _MAX_GROUPS and _count_states(pieces) <= _MAX_STATES:
        return [pieces]
    parts: list[list[_Piece]] = [[]]
    groups = 1  # of several parts, each is a group as a whole
    for piece in pieces:
        if isinstance(piece, Leaf):
            if groups == _MAX_GROUPS or _count_states([*parts[-1], piece]) > _MAX_STATES:
                parts.append([])
                groups = 1
            groups += piece.is_captured
        parts[-1].append(piece)
    return parts


def _count_states(pieces: list[_Piece]) -> int:
    return sum(_VALUE_STATES if isinstance(each, Leaf) else len(each) for each in pieces)


def _write_patterns(parts: list[list[_Piece]], blanks: str) -> tuple[str, ...]:
    bodies = [
        blanks + blanks.join(each if isinstance(each, str) else each.form for each in part)
        for part in parts
    ]
    bodies[-1] += rf"{blanks}\z"
    if len(bodies) > 1:
        bodies = [f"({each})" for each in bodies]
    return tuple(rf"\A{each}" for each in bodies)


def _cut_off(texts: pl.Series, heads: pl.Series) -> pl.Series:
    """Return what is left of the texts behind their heads; null where there is no head."""
    pairs = pl.DataFrame({"text": texts.cast(pl.Binary), "head": heads.str.len_bytes()})
    left = pairs.select(
        pl.when(pl.col("head").is_not_null()).then(pl.col("text").bin.slice(pl.col("head")))
    )
    return left.to_series().cast(pl.String)


def _read_values(values: pl.Series, form: Form, nul_rows: set[int]) -> pl.Series:
    """Return the cells of captured values; adds the rows of those with a NUL character."""
    if form in {Form.WORD, Form.WORD_TIME}:
        return values
    cells = values.str.strip_chars('"') if form is Form.ANY else values
    rows = values.str.contains("\\", literal=True).arg_true()
    if not rows.is_empty():
        escaped = values.gather(rows).to_list()
        quote = "" if form is Form.ANY else '"'
        known = {text: write_text(json.loads(quote + text + quote)) for text in set(escaped)}
        read = [known[text] for text in escaped]
        cells = cells.scatter(rows, pl.Series(read, dtype=pl.String))
        nul_rows.update(
            row for row, text in zip(rows.to_list(), read, strict=True) if text and "\0" in text
        )
    is_empty = cells == ""
    return cells.set(is_empty, None) if is_empty.any() else cells
