"""Points in time as a person writes them."""

import argparse
import datetime as dt
from typing import overload


@overload
def in_utc(moment: dt.datetime) -> dt.datetime: ...
@overload
def in_utc(moment: None) -> None: ...
def in_utc(moment: dt.datetime | None) -> dt.datetime | None:
    """Return the moment with its zone; one without a zone is meant in UTC."""
    if moment is None:
        return None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def parse_moment(text: str) -> dt.datetime:
    """Return what an option of a command names; raises ArgumentTypeError with a sentence."""
    try:
        return in_utc(dt.datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no time: write 2026-11-23T07:51 (in UTC), or with a zone "
            "2026-11-23T07:51+01:00"
        ) from None
