"""Figures as people say them."""

import math

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def tell_time(seconds: float) -> str:
    """Return a time as a person says it: `49 hours`, `12 days`."""
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 3 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def tell_share(share: float) -> str:
    """Return a share as percent, with as many digits as say something: `4.1 %`, `0.003 %`."""
    percent = 100 * share
    if percent == 0 or percent >= 1:
        return f"{percent:.1f} %"
    return f"{percent:.{max(1 - math.floor(math.log10(percent)), 1)}f} %"
