"""What a message says, before it becomes text or HTML; no part of it shows what is private."""

import unicodedata
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

from infra.redaction import redact

Tone = Literal["bad", "odd", "good", "plain"]


@dataclass(frozen=True, slots=True)
class Heading:
    """Says what the blocks after it are about."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Prose."""

    text: str


@dataclass(frozen=True, slots=True)
class Quote:
    """Words that somebody else said, as an error's."""

    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Pairs of a name and what it is."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Item:
    """A line of a list: a name, a figure beside it, and what there is to say below it."""

    name: str
    figure: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Items:
    """A list; narrow enough for a phone, unlike a table of many columns."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """Text whose line breaks count: log lines, tracebacks, commands."""

    text: str


@dataclass(frozen=True, slots=True)
class Links:
    """Pairs of what is there and where that is."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Footer:
    """Who sends this, in small."""

    text: str


Block = Heading | Paragraph | Quote | Facts | Items | Lines | Links | Footer


@dataclass(frozen=True, slots=True)
class Document:
    """A message: its subject, a headline, what everybody reads, and details for mail alone."""

    subject: str
    tone: Tone
    headline: str
    blocks: tuple[Block, ...]
    details: tuple[Block, ...] = ()
    """Left out where messages are short, as in a chat."""


_Given = TypeVar("_Given")


def hide_private(document: Document) -> Document:
    """Return the same message without secrets, mail addresses, personal values and control codes.

    Every text of every block passes infra.redaction.
    """
    return _hide(document)


def _hide(value: _Given) -> _Given:
    shown: Any = value
    if isinstance(value, str):
        shown = drop_controls(redact(value))
    elif isinstance(value, tuple):
        shown = tuple(_hide(each) for each in value)
    else:
        parts: Any = value
        changed = {each.name: _hide(getattr(parts, each.name)) for each in fields(parts)}
        shown = replace(parts, **changed)
    result: _Given = shown
    return result


def drop_controls(text: str) -> str:
    """Return the text without characters that steer a terminal or turn the direction of writing."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        each
        for each in text.replace("\r\n", "\n")
        if each in "\n\t" or unicodedata.category(each) not in {"Cc", "Cf", "Cs"}
    )
