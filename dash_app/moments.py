"""Moments as a person writes them into a field, in their own zone."""

import datetime as dt
import re
from zoneinfo import ZoneInfo

from schemas.errors import SluicewayError

_DAY_AND_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[ t]+(\d{1,2}:\d{2}(?::\d{2})?))?", re.ASCII)
_TIME = re.compile(r"\d{1,2}:\d{2}", re.ASCII)
_SHOWN = 40


class MomentError(SluicewayError):
    """What was written is no moment."""


def read_moment(given: str, now: dt.datetime, zone: ZoneInfo, name: str) -> dt.datetime:
    """Return the moment that a person wrote in their zone; nothing and `now` are now.

    Raises MomentError with a sentence that says how to write it.
    """
    text = given.strip().lower()
    if text in {"", "now"}:
        return now
    today = now.astimezone(zone).date().isoformat()
    found = _DAY_AND_TIME.fullmatch(text)
    if _TIME.fullmatch(text):
        day, time = today, text
    elif found:
        day, time = found[1], found[2] or "00:00"
    else:
        raise MomentError(
            f"{name}: '{given[:_SHOWN]}' is no time. Write it as 14:00 or 2026-01-31 14:00."
        )
    try:
        local = dt.datetime.fromisoformat(f"{day}T{time.zfill(5 if len(time) <= 5 else 8)}")  # noqa: PLR2004 - without seconds
        moment_ = local.replace(tzinfo=zone).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise MomentError(f"{name}: there is no such time as '{given[:_SHOWN]}'.") from None
    if moment_.astimezone(zone).replace(tzinfo=None) != local:
        raise MomentError(
            f"{name}: the clocks in {zone.key} leave out '{given[:_SHOWN]}'; take another time."
        )
    return moment_
