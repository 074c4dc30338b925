"""The events of the stream's chaos: what each of them says, by its number, and what it must become.

A table without a key takes them, so that an event that is loaded twice is seen twice.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum

from schemas.dataset import Dataset, Role, column

TOPIC = "chaos-stream"
GROUP = "chaos"
TABLE = "chaos_events"
LARGEST_AMOUNT = 9_973


class ChaosEvents(Dataset, table=TABLE, role=Role.STAGING):
    """One row per event that was sent, in whatever order."""

    event_id: int = column(ge=1)
    amount: int = column(ge=0, le=LARGEST_AMOUNT)
    note: str = column()


class Fate(StrEnum):
    """What has to become of an event."""

    ROW = "a row"
    BROKEN_JSON = "invalid_json"
    TOMBSTONE = "tombstone"
    NO_CONTRACT = "no_contract"
    BREAKS_CONTRACT = "amount:"
    """These are what the reason of its dead letter begins with."""


_FATES: Mapping[int, Fate] = {
    7: Fate.BROKEN_JSON,
    31: Fate.TOMBSTONE,
    59: Fate.NO_CONTRACT,
    83: Fate.BREAKS_CONTRACT,
}
"""Of a hundred events, those that make no row."""


def fate_of(event_id: int) -> Fate:
    """Return what has to become of an event."""
    return _FATES.get(event_id % 100, Fate.ROW)


def amount_of(event_id: int) -> int:
    """Return the event's amount, where its contract takes it."""
    return event_id * 31 % LARGEST_AMOUNT


def note_of(event_id: int) -> str:
    """Return the event's text; no two events have the same."""
    return hashlib.md5(b"%d" % event_id, usedforsecurity=False).hexdigest()


def key_of(event_id: int) -> bytes:
    """Return the key of the event's message."""
    return b"%d" % event_id


def value_of(event_id: int, timestamp: str) -> bytes | None:
    """Return the value of the event's message, some 170 bytes."""
    fate = fate_of(event_id)
    if fate is Fate.TOMBSTONE:
        return None
    source = "nobody" if fate is Fate.NO_CONTRACT else TABLE
    amount = -1 if fate is Fate.BREAKS_CONTRACT else amount_of(event_id)
    text = (
        f'{{"source": "{source}", "timestamp": "{timestamp}", "payload": '
        f'{{"event_id": {event_id}, "amount": {amount}, "note": "{note_of(event_id)}"}}'
    )
    return (text if fate is Fate.BROKEN_JSON else text + "}").encode()
