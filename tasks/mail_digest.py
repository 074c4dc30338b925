"""The mails that are about no single problem: the digest of many, and the test."""

import datetime as dt
import socket
from collections.abc import Sequence

from infra.log_rows import cut
from infra.mail.document import (
    Block,
    Document,
    Facts,
    Item,
    Items,
    Paragraph,
)
from infra.settings import Settings
from tasks.mail_parts import PREFIX, footer, links
from tasks.mail_problems import Problem
from tasks.mail_words import count, moment, times


def tell_digest(
    problems: Sequence[Problem],
    sentences: Sequence[str],
    of_day: Sequence[int],
    *,
    left_out: Sequence[Problem],
    settings: Settings,
) -> Document:
    """Return one mail for many problems. sentences, of_day: the newest of each, and its count."""
    every = [*problems, *left_out]
    events = sum(each.events for each in every)
    headline = f"{count(len(every), 'problem')}, {count(events, 'event')}"
    items = tuple(
        Item(
            each.subject,
            f"{each.events:,}",
            f"{cut(sentence, 300)}\n{times(number).capitalize()} in the last 24 hours."
            if number
            else cut(sentence, 300),
        )
        for each, sentence, number in zip(problems, sentences, of_day, strict=True)
    )
    blocks: list[Block] = [
        Paragraph(
            f"At most {count(settings.mails_per_hour, 'mail')} an hour are sent "
            "(SLUICEWAY_MAILS_PER_HOUR). This one stands for all that waited; the figures are what "
            "happened since the last mail about each problem."
        ),
        Items(items),
    ]
    if left_out:
        rest = sum(each.events for each in left_out)
        blocks.append(
            Paragraph(f"And {count(len(left_out), 'problem')} more, {count(rest, 'event')}.")
        )
    return Document(
        subject=f"{PREFIX} {headline}",
        tone="bad" if any(each.is_error for each in every) else "odd",
        headline=headline,
        blocks=(*blocks, *links(settings, None, page="/runs")),
        details=(footer(settings),),
    )


def tell_test(settings: Settings, when: dt.datetime) -> Document:
    """Return the mail by which a person finds out that the settings are right."""
    return Document(
        subject=f"{PREFIX} test mail",
        tone="plain",
        headline="Mails from Sluiceway arrive here",
        blocks=(
            Paragraph("Somebody asked for this mail with `python -m flows.send_mail --test`."),
            Facts((("Sent", moment(when)), ("From", socket.gethostname()))),
            *links(settings, None, page="/"),
        ),
    )


def tell_plainly(problem: Problem, *, settings: Settings) -> Document:
    """Return what is known of a problem without asking anybody."""
    headline = f"{problem.subject}: {count(problem.events, 'event')}"
    return Document(
        subject=f"{PREFIX} {headline}",
        tone="bad" if problem.is_error else "odd",
        headline=headline,
        blocks=(
            Paragraph("More could not be put into this mail; the mailer's log says why."),
            Facts((("First", moment(problem.first_at)), ("Last", moment(problem.last_at)))),
            *links(settings, None, page="/runs"),
        ),
        details=(footer(settings),),
    )
