"""The mails about one problem each: failure, recovery, success, odd loads, bad parts."""

import datetime as dt
from collections.abc import Sequence

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
from tasks.ledger import Ledger
from tasks.mail_events import Event
from tasks.mail_parts import PREFIX, footer, links, run_facts, what_was_loaded
from tasks.mail_problems import Problem
from tasks.mail_runs import TERMS, Run
from tasks.mail_words import count, duration, moment, times

_MAX_MESSAGE = 1500
_MAX_TRACEBACK = 8000
_TRACEBACK_LINES = 50
_MAX_SENTENCES = 20


def tell_failure(
    problem: Problem,
    event: Event,
    run: Run | None,
    *,
    reasons: Sequence[tuple[str, int]],
    of_day: int,
    settings: Settings,
) -> Document:
    """Return the mail about a pipeline's failures, the newest told in full."""
    name, failures = problem.subject, problem.failures
    often = f" ({failures:,} times)" if failures > 1 else ""
    message = (run.error_message if run is not None else "") or event.summary
    blocks: list[Block] = [Quote(cut(message, _MAX_MESSAGE))]
    if failures > 1:
        blocks.append(
            Paragraph(
                f"{failures:,} runs failed between {moment(problem.first_at)} and "
                f"{moment(problem.last_at)}. The newest is the one below."
            )
        )
    if problem.recoveries or problem.revived:
        back = problem.recoveries + problem.revived
        blocks.append(Paragraph(f"In between it worked again {times(back)}."))
    facts = [("Failed", moment(event.happened_at)), *run_facts(run)]
    blocks.append(Facts((*facts, ("Last 24 hours", count(of_day, "failure")))))
    blocks += links(settings, run)
    details = what_was_loaded(run) if run is not None else []
    if len(reasons) > 1:
        details += [Heading("What was said, and how often"), _list(reasons)]
    if run is not None and run.lines:
        details += [Heading("Last log lines"), Lines("\n".join(run.lines))]
    if run is not None and run.error_traceback:
        last = run.error_traceback.rstrip().splitlines()[-_TRACEBACK_LINES:]
        details += [Heading("Traceback"), Lines(cut("\n".join(last), _MAX_TRACEBACK))]
    return Document(
        subject=f"{PREFIX} {name} failed{often}",
        tone="bad",
        headline=f"{name} failed" if failures == 1 else f"{name} failed {times(failures)}",
        blocks=tuple(blocks),
        details=(*details, footer(settings)),
    )


def tell_recovery(
    problem: Problem,
    run: Run | None,
    *,
    since: dt.datetime | None,
    failures: int,
    reasons: Sequence[tuple[str, int]],
    settings: Settings,
) -> Document:
    """Return the mail that says that all is well again, and also what was wrong if nobody knows.

    since: when it began. failures: since then.
    """
    name = problem.subject
    is_pipeline = problem.problem.startswith("pipeline:")
    is_news = bool(problem.failures or problem.outages)
    told = problem.failures + problem.outages
    was_wrong = "was bad" if problem.outages else "failed"
    headline = f"{name} works again"
    if is_news:
        headline = f"{name} {was_wrong} {times(told)} and works again"
    # What was told of it later, as further successes, is none of the recovery.
    back_at = problem.good_at or problem.last_at
    facts = [("Works since", moment(back_at))]
    if since is not None:
        facts += [
            ("Broken since", moment(since)),
            ("Broken for", duration(back_at - since)),
        ]
    facts.append(("Failures" if is_pipeline else "Outages", f"{failures:,}"))
    blocks: list[Block] = [Facts((*facts, *run_facts(run)))]
    if problem.revived:
        blocks.append(
            Paragraph(
                f"{count(problem.revived, 'run')} had been taken for dead, and turned out to live "
                "or to have ended well."
            )
        )
    if is_news and reasons:
        blocks += [Heading("What was wrong"), _list(reasons)]
    page = "" if is_pipeline else "/system"
    return Document(
        subject=f"{PREFIX} {headline}",
        tone="good",
        headline=headline,
        blocks=(*blocks, *links(settings, run, page=page)),
        details=(footer(settings),),
    )


def tell_success(problem: Problem, run: Run | None, *, settings: Settings) -> Document:
    """Return the mail about a pipeline's success, with the newest run's ledger."""
    name, successes = problem.subject, problem.successes + problem.recoveries
    often = f" ({successes:,} times)" if successes > 1 else ""
    blocks: list[Block] = []
    if successes > 1:
        blocks.append(Paragraph(f"{successes:,} runs succeeded. The newest is the one below."))
    blocks.append(Facts((("Ended", moment(problem.last_at)), *run_facts(run))))
    blocks += links(settings, run)
    details: list[Block] = []
    if run is not None:
        total = sum(
            (each.ledger for each in run.sources if each.ledger is not None),
            sum(run.streamed.values(), Ledger()),
        )
        terms = [("Read", total.read), *((term.title(), getattr(total, term)) for term in TERMS)]
        shown = tuple(Item(each, f"{number:,}") for each, number in terms)
        details += [Heading("The ledger"), Items(shown), *what_was_loaded(run)]
        if run.warnings:
            warned = [Paragraph(cut(each, 500)) for each in run.warnings[:_MAX_SENTENCES]]
            details += [Heading("Warnings"), *warned]
    return Document(
        subject=f"{PREFIX} {name} succeeded{often}",
        tone="good",
        headline=f"{name} succeeded{often}",
        blocks=tuple(blocks),
        details=(*details, footer(settings)),
    )


def _list(reasons: Sequence[tuple[str, int]]) -> Items:
    return Items(tuple(Item(times(n).capitalize(), note=cut(said, 300)) for said, n in reasons))
