"""The mails about odd loads and bad parts."""

import datetime as dt
import shlex
from collections.abc import Sequence
from urllib.parse import quote

from infra.log_rows import cut
from infra.mail.document import (
    Block,
    Document,
    Facts,
    Heading,
    Item,
    Items,
    Lines,
    Paragraph,
    Quote,
)
from infra.settings import Settings
from tasks.mail_events import Event
from tasks.mail_parts import PREFIX, footer, links
from tasks.mail_problems import Problem
from tasks.mail_words import count, moment

_MAX_MESSAGE = 1500
_MAX_SENTENCES = 20
_DETAILS = {"checks": "Bad checks", "detail": "Found"}


def tell_anomalies(
    problem: Problem, events: Sequence[Event], *, of_day: int, settings: Settings
) -> Document:
    """Return the mail about a dataset's odd loads, the newest first."""
    name, loads = problem.subject, problem.anomalies
    headline = f"{name}: an odd load" if loads == 1 else f"{name}: {loads:,} odd loads"
    found = [each for event in events for each in _sentences(event)]
    items = tuple(
        Item(severity.capitalize(), note=cut(text, 500))
        for text, severity in found[:_MAX_SENTENCES]
    )
    blocks: list[Block] = [Items(items)]
    if len(found) > len(items):
        blocks.append(Paragraph(f"And {len(found) - len(items):,} more."))
    if any(event.detail.get("was_refused") is True for event in events):
        blocks.append(Paragraph("It was not merged: the contract demands that of such a load."))
    facts = [("Found", moment(problem.last_at))]
    if events and events[0].execution_id is not None:
        facts.append(("Run", str(events[0].execution_id)))
    blocks.append(Facts((*facts, ("Last 24 hours", count(of_day, "odd load")))))
    run_id = events[0].execution_id if events else None
    blocks += links(settings, None, run_id=run_id, page=f"/quality?dataset={quote(name)}")
    details: list[Block] = [
        Heading("Would it have fired before?"),
        Lines(f"python -m tasks.backtest_anomalies --dataset {shlex.quote(name)}"),
    ]
    return Document(
        subject=f"{PREFIX} {headline}",
        tone="bad" if problem.is_error else "odd",
        headline=headline,
        blocks=tuple(blocks),
        details=(*details, footer(settings)),
    )


def tell_outage(
    problem: Problem, event: Event, *, since: dt.datetime, of_day: int, settings: Settings
) -> Document:
    """Return the mail about a part of the platform that is bad. since: when it began."""
    headline = f"{problem.subject} is bad"
    found = [
        (label, cut(str(event.detail[name]), 300))
        for name, label in _DETAILS.items()
        if event.detail.get(name)
    ]
    facts = [("Bad since", moment(since)), *found, ("Last 24 hours", count(of_day, "outage"))]
    return Document(
        subject=f"{PREFIX} {headline}",
        tone="bad" if problem.is_error else "odd",
        headline=headline,
        blocks=(
            Quote(cut(event.summary, _MAX_MESSAGE)),
            Facts(tuple(facts)),
            *links(settings, None, page="/system"),
        ),
        details=(footer(settings),),
    )


def _sentences(event: Event) -> list[tuple[str, str]]:
    listed = event.detail.get("anomalies")
    found = [
        (str(each["summary"]), str(each.get("severity", "")))
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict) and each.get("summary")
    ]
    return found or [(event.summary, event.severity)]
