"""A message as plain text, in lines of at most 78 characters where they may be broken."""

import textwrap
from collections.abc import Iterable

from infra.mail.document import (
    Block,
    Document,
    Facts,
    Footer,
    Heading,
    Items,
    Lines,
    Links,
    Paragraph,
    Quote,
)

_WIDTH = 78


def render_text(document: Document, *, is_brief: bool = False) -> str:
    """Return the message as text that ends in a line break.

    is_brief: without the headline, which is then the message's title, and without the details.
    """
    blocks = document.blocks if is_brief else (*document.blocks, *document.details)
    head = [] if is_brief else [_wrap(document.headline)]
    return "\n\n".join(filter(None, [*head, *map(_render, blocks)])) + "\n"


def _render(block: Block) -> str:
    match block:
        case Heading(text):
            shown = f"{_wrap(text)}\n{'-' * min(len(text), _WIDTH)}"
        case Paragraph(text):
            shown = _wrap(text)
        case Quote(text):
            shown = _wrap(text, indent="> ")
        case Facts(pairs):
            width = max((len(name) for name, _ in pairs), default=0) + 1
            shown = "\n".join(f"{name + ':':<{width}} {value}" for name, value in pairs)
        case Items(items):
            shown = "\n".join(_item(each.name, each.figure, each.note) for each in items)
        case Lines(text):
            shown = textwrap.indent(text.rstrip("\n"), "    ")
        case Footer(text):
            shown = f"-- \n{_wrap(text)}"
        case Links(pairs):
            shown = "\n".join(f"{name}:\n{address}" for name, address in pairs)
    return shown


def _item(name: str, figure: str, note: str) -> str:
    first = f"- {name}: {figure}" if figure else f"- {name}"
    return f"{first}\n{_wrap(note, indent='  ')}" if note else first


def _wrap(text: str, indent: str = "") -> str:
    return "\n".join(_wrapped(text.splitlines(), indent))


def _wrapped(lines: Iterable[str], indent: str) -> Iterable[str]:
    for line in lines:
        yield (
            textwrap.fill(
                line,
                _WIDTH,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            or indent.rstrip()
        )
