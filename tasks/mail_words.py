"""How mails write counts, moments and durations; pure functions of values."""

import datetime as dt

from tasks.ledger import Ledger
from tasks.mail_runs import TERMS

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def count(number: int, one: str, several: str = "") -> str:
    """Return "1 run", "2,000 runs"."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def times(number: int) -> str:
    """Return "once", "3 times"."""
    return "once" if number == 1 else f"{number:,} times"


def moment(when: dt.datetime) -> str:
    """Return the moment in UTC, to the second."""
    return f"{when.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(length: dt.timedelta) -> str:
    """Return a duration as 12 s, 4 min 5 s, 3 h 20 min, 2 d 4 h."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min {seconds % _MINUTE} s"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h {seconds % _HOUR // _MINUTE} min"
    return f"{seconds // _DAY} d {seconds % _DAY // _HOUR} h"


def equation(ledger: Ledger) -> str:
    """Return what became of the rows as a sum, without the terms that are zero."""
    if not ledger.read:
        return "nothing to read"
    terms = [f"{getattr(ledger, term):,} {term}" for term in TERMS if getattr(ledger, term)]
    return f"{ledger.read:,} read = {' + '.join(terms)}"
