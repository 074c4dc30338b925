"""Whoever looks at a page, as the drawing of it needs to know them."""

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dash_app.access.users import User
from dash_app.reader import Reader
from infra.settings import Settings


class LocalTime(str):
    """A moment as a chart's axis takes it; `utc` is what is said of it besides."""

    __slots__ = ("utc",)
    utc: str
    """Empty for who lives by UTC."""


@dataclass(frozen=True, slots=True)
class View:
    """One look at a page."""

    user: User
    zone: ZoneInfo
    dark: bool
    now: dt.datetime
    reader: Reader
    settings: Settings

    def age(self, moment: dt.datetime) -> float:
        """Return how long ago it was, in seconds; 0 for what is still to come."""
        return max(0.0, (self.now - moment).total_seconds())

    def local(self, moment: dt.datetime) -> LocalTime:
        """Return the moment in the viewer's zone as a chart's axis takes it: no zone, to the ms.

        Plotly draws what it is given and knows no zones.
        """
        here = moment.astimezone(self.zone)
        found = LocalTime(here.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3])
        found.utc = f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC" if here.utcoffset() else ""
        return found


@lru_cache(maxsize=256)
def find_zone(name: str | None) -> ZoneInfo:
    """Return the zone of that name; UTC where the browser names one that is not known here."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
