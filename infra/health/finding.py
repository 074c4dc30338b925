"""What a health check says."""

import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a part is, as metadata.health_checks has it."""

    GOOD = "GOOD"
    BAD = "BAD"
    UNKNOWN = "UNKNOWN"
    """Nothing can be said of it, as where what would know is away itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, with a sentence for a person."""

    status: Status
    detail: str


Check = Callable[[], Awaitable[Finding]]
"""A check, which may raise, block its thread or never return: infra/health/checker.py runs it."""


@dataclass(frozen=True, slots=True)
class Result:
    """A row of metadata.health_checks."""

    component: str
    status: Status
    latency_seconds: float
    detail: str
    checked_at: dt.datetime


def good(detail: str) -> Finding:
    """Return that it does what it should."""
    return Finding(Status.GOOD, detail)


def bad(detail: str) -> Finding:
    """Return that it does not."""
    return Finding(Status.BAD, detail)


def unknown(detail: str) -> Finding:
    """Return that nobody knows."""
    return Finding(Status.UNKNOWN, detail)


def first_line(error: BaseException) -> str:
    """Return what an error says, in a line; its type's name where it says nothing."""
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
