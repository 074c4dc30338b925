"""Patterns for messages that say the same things in the same order.

A pattern is made from one message, and fits every other with the same source and the same keys in
the same places, whatever its values. What fits is JSON, and names no key twice; what is not, does
not fit.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

import polars as pl

from tasks.envelope_json import join_path
from tasks.json_records import Number

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
_MAX_PARTS = 8
_MAX_PIECES = 1_000


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


Piece = str | Leaf
"""What a message is made of: text as a pattern has it, and values."""


class NoPatternError(Exception):
    """No pattern is made for a message with lists, with keys in escapes, or of this width."""


def spell(envelope: dict[str, Any]) -> list[list[Piece]]:
    """Return a message's pieces, in parts that are matched fast; all but the last end in a colon.

    envelope: of a whole message, as `tasks.envelope_json` has parsed it. Raises NoPatternError.
    """
    try:
        pieces = list(islice(_spell_envelope(envelope), _MAX_PIECES))
    except RecursionError:
        raise NoPatternError from None
    parts = _cut(pieces)
    is_wide = len(pieces) == _MAX_PIECES or len(parts) > _MAX_PARTS
    if is_wide or max(map(_count_states, parts)) > _MAX_STATES * 1.1:
        raise NoPatternError
    return parts


def write_patterns(parts: list[list[Piece]], *, with_blanks: bool) -> tuple[str, ...]:
    """Return a pattern for each part; of several, each is a group as a whole.

    with_blanks: take blanks wherever JSON allows them. It takes a fifth longer.
    """
    blanks = _BLANKS if with_blanks else ""
    bodies = [
        blanks + blanks.join(each if isinstance(each, str) else each.form for each in part)
        for part in parts
    ]
    bodies[-1] += rf"{blanks}\z"
    if len(bodies) > 1:
        bodies = [f"({each})" for each in bodies]
    return tuple(rf"\A{each}" for each in bodies)


def _spell_envelope(envelope: dict[str, Any]) -> Iterator[Piece]:
    yield r"\{"
    for place, (key, value) in enumerate(envelope.items()):
        yield from _spell_key(key, place)
        if key == "source":
            yield _spell_text(value)
        elif key == "timestamp":
            if value is None:
                raise NoPatternError
            yield Leaf(Form.WORD_TIME if isinstance(value, Number | bool) else Form.TEXT_TIME)
        elif key == "payload":
            yield from _spell_object(value, "", is_payload=True)
        else:
            yield from _spell_value(value, None)
    yield r"\}"


def _spell_object(
    members: dict[str, Any], path: str | None, *, is_payload: bool = False
) -> Iterator[Piece]:
    """Spell an object; `path` is where the payload has it, None outside the payload."""
    yield r"\{"
    for place, (key, value) in enumerate(members.items()):
        yield from _spell_key(key, place)
        inner = None if path is None else join_path(path, key)
        yield from _spell_value(value, inner, is_nested=not is_payload)
    yield r"\}"


def _spell_value(value: Any, path: str | None, *, is_nested: bool = False) -> Iterator[Piece]:
    if isinstance(value, dict):
        yield from _spell_object(value, path)
    elif isinstance(value, list):
        raise NoPatternError
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
        raise NoPatternError
    return pl.escape_regex(f'"{text}"')


def _cut(pieces: list[Piece]) -> list[list[Piece]]:
    groups = sum(isinstance(each, Leaf) and each.is_captured for each in pieces)
    if groups <= _MAX_GROUPS and _count_states(pieces) <= _MAX_STATES:
        return [pieces]
    parts: list[list[Piece]] = [[]]
    groups = 1  # of several parts, each is a group as a whole
    for piece in pieces:
        if isinstance(piece, Leaf):
            if groups == _MAX_GROUPS or _count_states([*parts[-1], piece]) > _MAX_STATES:
                parts.append([])
                groups = 1
            groups += piece.is_captured
        parts[-1].append(piece)
    return parts


def _count_states(pieces: list[Piece]) -> int:
    return sum(_VALUE_STATES if isinstance(each, Leaf) else len(each) for each in pieces)
