"""How figures and moments are written for a person; pure functions of values."""

import datetime as dt
from dataclasses import dataclass

from dash_app.view import View

_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Sign:
    """How a state looks: colour is never the only sign."""

    glyph: str
    word: str
    colour: str
    """A colour of Mantine's theme."""
    hatch: str
    """A pattern of Plotly's bars."""


SIGNS = {
    "SUCCESS": Sign("✓", "success", "teal", ""),
    "FAILED": Sign("✕", "failed", "red", "x"),
    "RUNNING": Sign("▶", "running", "blue", "/"),
    "GOOD": Sign("✓", "good", "teal", ""),
    "BAD": Sign("✕", "bad", "red", "x"),
    "UNKNOWN": Sign("?", "unknown", "gray", "."),
    "FRESH": Sign("✓", "fresh", "teal", ""),
    "STALE": Sign("✕", "stale", "red", "x"),
    "NEVER": Sign("?", "never loaded", "gray", "."),
    "WARNING": Sign("!", "warning", "orange", "/"),
    "ERROR": Sign("✕", "error", "red", "x"),
    "MERGED": Sign("✓", "merged", "teal", ""),
    "REFUSED": Sign("✕", "refused", "red", "x"),
}
"""By what PostgreSQL says."""


def sign_of(state: str) -> Sign:
    """Return how the state looks; one that is not known looks unknown, under its own name."""
    return SIGNS.get(state) or Sign("?", state.lower(), "gray", ".")


def count(number: float | None) -> str:
    """Return a number of things with separators; a dash where there is none."""
    return NOTHING if number is None else f"{number:,.0f}"


def share(part: float | None, whole: float | None = 1.0) -> str:
    """Return part of whole in percent, never 100 % of what is a little less."""
    if part is None or not whole:
        return NOTHING
    percent = 100.0 * part / whole
    shown = f"{percent:.1f}"
    return "99.9 %" if shown == "100.0" and part < whole else f"{shown} %"


def small_share(part: float | None, whole: float | None = 1.0) -> str:
    """Return part of whole in percent, never 0 % of what is a little more."""
    shown = share(part, whole)
    return "< 0.1 %" if part and shown == "0.0 %" else shown


def duration(seconds: float | None) -> str:
    """Return a duration: 0.35 s, 12.3 s, 4 min 05 s, 3 h 20 min, 2 d 4 h."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min {int(seconds % _MINUTE):02d} s"
    if seconds < _DAY:
        return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // _MINUTE):02d} min"
    return f"{int(seconds // _DAY)} d {int(seconds % _DAY // _HOUR)} h"


def size(number: float | None) -> str:
    """Return a number of bytes in decimal units."""
    if number is None:
        return NOTHING
    left = float(number)
    for unit in _UNITS:
        if abs(left) < _STEP or unit == _UNITS[-1]:
            return f"{left:,.0f} {unit}" if unit == "B" else f"{left:,.1f} {unit}"
        left /= _STEP
    raise AssertionError


def moment_text(view: View, when: dt.datetime | None) -> str:
    """Return a moment in the viewer's zone, to the second."""
    return NOTHING if when is None else f"{when.astimezone(view.zone):%Y-%m-%d %H:%M:%S}"


def utc_text(when: dt.datetime | None) -> str:
    """Return a moment in UTC, and say so."""
    return NOTHING if when is None else f"{when.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def ago(view: View, when: dt.datetime | None) -> str:
    """Return how long ago it was."""
    if when is None:
        return "never"
    return f"{duration(view.age(when))} ago"
