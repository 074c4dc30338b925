"""A message as HTML for mail programs: one column, styles in place, nothing loaded, all escaped.

Colours are those of the reader's program, so that a dark one stays dark; what has a colour of its
own has a background of its own too, or is grey enough for both.
"""

from html import escape
from urllib.parse import urlsplit

from infra.mail.document import (
    Block,
    Document,
    Facts,
    Footer,
    Heading,
    Item,
    Items,
    Lines,
    Links,
    Paragraph,
    Quote,
)

_FONT = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_MONO = "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_BREAK = "overflow-wrap:anywhere;word-break:break-word"
_LINE = "1px solid rgba(128,128,128,0.35)"
_TINT = "rgba(128,128,128,0.13)"
_BANNERS = {"bad": "#b3261e", "odd": "#8a5200", "good": "#1b6e3c", "plain": "#3c4a5e"}
"""By tone; white is read on each of them."""
_EDGES = {"bad": "#d0453b", "odd": "#b97a10", "good": "#2f9158", "plain": "#7c8aa0"}


def render_html(document: Document) -> str:
    """Return a whole HTML document."""
    parts = "\n".join(
        _render(each, document.tone) for each in (*document.blocks, *document.details)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<title>{escape(document.subject)}</title>
</head>
<body style="margin:0;padding:0;color-scheme:light dark">
<div style="max-width:640px;margin:0 auto;padding:12px;{_FONT};font-size:16px;line-height:1.45;\
{_BREAK}">
<h1 style="margin:0 0 16px;padding:14px 16px;border-radius:6px;font-size:20px;line-height:1.3;\
background:{_BANNERS[document.tone]};color:#ffffff">{_escape(document.headline)}</h1>
{parts}
</div>
</body>
</html>
"""


def _render(block: Block, tone: str) -> str:
    match block:
        case Heading(text):
            shown = f'<h2 style="margin:24px 0 8px;font-size:17px">{_escape(text)}</h2>'
        case Paragraph(text):
            shown = f'<p style="margin:0 0 12px">{_escape(text)}</p>'
        case Quote(text):
            shown = (
                f'<p style="margin:0 0 16px;padding:10px 12px;border-left:4px solid {_EDGES[tone]};'
                f'background:{_TINT}">{_escape(text)}</p>'
            )
        case Facts(pairs):
            shown = _table("".join(_fact(name, value) for name, value in pairs))
        case Items(items):
            shown = _table("".join(map(_item, items)))
        case Footer(text):
            shown = (
                f'<p style="margin:24px 0 0;padding-top:10px;border-top:{_LINE};font-size:13px;'
                f'opacity:0.75">{_escape(text)}</p>'
            )
        case Lines(text):
            shown = (
                f'<pre style="margin:0 0 12px;padding:10px 12px;border-radius:6px;{_MONO};'
                f"font-size:12.5px;line-height:1.5;white-space:pre-wrap;{_BREAK};"
                f'background:{_TINT}">{escape(text.rstrip())}</pre>'
            )
        case Links(pairs):
            shown = (
                f'<p style="margin:16px 0">{"".join(_link(name, url) for name, url in pairs)}</p>'
            )
    return shown


def _table(rows: str) -> str:
    return (
        '<table role="presentation" style="width:100%;border-collapse:collapse;'
        f'margin:0 0 12px;font-size:15px">{rows}</table>'
    )


def _fact(name: str, value: str) -> str:
    return (
        f'<tr><td style="padding:5px 14px 5px 0;vertical-align:top;white-space:nowrap;'
        f'opacity:0.75">{_escape(name)}</td><td style="padding:5px 0;vertical-align:top;'
        f'width:100%;{_BREAK}">{_escape(value)}</td></tr>'
    )


def _item(item: Item) -> str:
    note = (
        f'<tr><td colspan="2" style="padding:0 0 8px;font-size:14px;opacity:0.8;{_BREAK}">'
        f"{_escape(item.note)}</td></tr>"
        if item.note
        else ""
    )
    below = "2px" if item.note else "8px"
    return (
        f'<tr><td style="padding:8px 12px {below} 0;border-top:{_LINE};vertical-align:top;'
        f'{_BREAK}">'
        f"<strong>{_escape(item.name)}</strong></td>"
        f'<td style="padding:8px 0 {below};border-top:{_LINE};vertical-align:top;text-align:right;'
        f'white-space:nowrap">{_escape(item.figure)}</td></tr>{note}'
    )


def _link(name: str, address: str) -> str:
    if urlsplit(address).scheme not in {"http", "https"}:
        return f"{_escape(name)}: {_escape(address)}<br>"
    return (
        f'<a href="{escape(address)}" style="display:inline-block;margin:0 8px 8px 0;'
        "padding:11px 16px;border:1px solid rgba(128,128,128,0.6);border-radius:6px;"
        f'text-decoration:none;font-weight:600">{_escape(name)}</a>'
    )


def _escape(text: str) -> str:
    return escape(text).replace("\n", "<br>")
