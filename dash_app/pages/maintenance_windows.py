"""Setting maintenance windows and ending them: what the system's page lets operators do."""

import datetime as dt
import re
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import structlog

from dash_app import formats
from dash_app.access.users import require_operator
from dash_app.moments import read_moment
from dash_app.queries import system as ask
from dash_app.queries.system import WindowError
from dash_app.view import View

log = structlog.get_logger("sluiceway.dashboard")

CANCELLED = dt.timedelta(seconds=1)
"""A window that is called off before it began keeps its row, at this length."""
LONGEST = dt.timedelta(days=30)
EVERYTHING = "everything"
NOBODY = "nobody logged in"
"""Stands for who uses a dashboard without users."""
_LENGTH = re.compile(r"\+?\s*(\d{1,5})\s*(min|h|d)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days"}


def judge(row: asyncpg.Record, now: dt.datetime) -> str:
    """Return RUNNING, PLANNED, PAST or CANCELLED."""
    if row["ends_at"] - row["starts_at"] <= CANCELLED:
        return "CANCELLED"
    if row["ends_at"] <= now:
        return "PAST"
    return "PLANNED" if row["starts_at"] > now else "RUNNING"


async def set_window(
    view: View, component: Any = None, begin: Any = None, until: Any = None, reason: Any = None
) -> str:
    """Make a window; returns what was set.

    Raises OperatorsOnlyError for who may not, WindowError for what makes no window.
    """
    user = require_operator()
    starts_at = read_moment(str(begin or ""), view.now, view.zone, "From")
    if not str(until or "").strip():
        raise WindowError("Say until when: as 2 h, 15:30 or 2026-01-31 15:30.")
    ends_at = read_end(str(until), starts_at, view.now, view.zone)
    others = await ask.find_overlapping(view.reader, component or None, starts_at, ends_at)
    known = {each.component for each in await ask.find_lives(view.reader)}
    if component and component not in known:
        raise WindowError(f"There is no part called {str(component)[:100]}: choose one, or none.")
    await ask.set_window(
        view.reader,
        window_id=None,
        component=component or None,
        starts_at=starts_at,
        ends_at=ends_at,
        reason=(reason if isinstance(reason, str) else "")[:1000].replace("\0", ""),
        by=user.name or NOBODY,
    )
    log.info("a maintenance window was set", part=component or EVERYTHING, by=user.name or NOBODY)
    return (
        f"Set: maintenance of {component or EVERYTHING} from "
        f"{formats.moment_text(view, starts_at)} until {formats.moment_text(view, ends_at)}."
        f"{_overlap(view, others)}"
    )


def _overlap(view: View, others: Sequence[asyncpg.Record]) -> str:
    """Return which windows cover a part of the same time; a minute in several counts once."""
    if not others:
        return ""
    first = others[0]
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return (
        f" It overlaps with that of {first['component'] or EVERYTHING} from "
        f"{formats.moment_text(view, first['starts_at'])} until "
        f"{formats.moment_text(view, first['ends_at'])} ({first['reason'][:100]}){more}; a minute "
        "in several counts once."
    )


async def end_window(view: View, window_id: Any) -> str:
    """End a running window, or call a planned one off; returns what was done.

    Raises OperatorsOnlyError for who may not, WindowError where there is nothing to end.
    """
    user = require_operator()
    is_id = isinstance(window_id, int) and 0 < window_id < 2**63
    row = await ask.find_window(view.reader, window_id) if is_id else None
    if row is None:
        raise WindowError("There is no such maintenance window.")
    state = judge(row, view.now)
    if state not in {"RUNNING", "PLANNED"}:
        raise WindowError("That maintenance window is over already.")
    is_running = state == "RUNNING"
    await ask.set_window(
        view.reader,
        window_id=row["id"],
        component=row["component"],
        starts_at=row["starts_at"],
        ends_at=view.now if is_running else row["starts_at"] + CANCELLED,
        reason=row["reason"],
        by=user.name or NOBODY,
    )
    log.info("a maintenance window was ended", window=row["id"], by=user.name or NOBODY)
    return f"{'Ended' if is_running else 'Called off'}: {row['reason']}"


def read_end(given: str, starts_at: dt.datetime, now: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """Return the moment that a person wrote, which may be a length from the start on.

    Raises MomentError or WindowError with a sentence.
    """
    found = _LENGTH.fullmatch(given.strip().lower())
    if found:
        length = dt.timedelta(**{_UNITS[found[2]]: int(found[1])})
        if length > LONGEST:
            raise WindowError("Until: that is too long; a window lasts at most 30 days.")
        return starts_at + length
    return read_moment(given, now, zone, "Until")
