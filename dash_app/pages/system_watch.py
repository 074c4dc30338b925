"""Who tells people, and who clears up: two cards of the system's page."""

from typing import Any

from dash import html

from dash_app import formats
from dash_app.masking import hide_addresses
from dash_app.pages.overview_charts import DAY
from dash_app.pages.overview_problems import PATIENCE
from dash_app.panels import Children, Panels
from dash_app.parts import Part, card, empty, grid, link, moment, place, stat, stats, table
from dash_app.queries import janitor as ask_janitor
from dash_app.queries import mails as ask_mails
from dash_app.view import View


def lay_out() -> Part:
    """Return the cards."""
    return grid(
        card(
            "Mail",
            place("system-mail", height=120),
            note="What people are told of failed runs, odd loads and bad parts.",
        ),
        card(
            "What the janitor did",
            place("system-janitor", height=120),
            note="It ends runs whose process is gone, and starts of a deployment that came too "
            "late; the newest.",
        ),
        least=460,
    )


def register(panels: Panels) -> None:
    """Connect the cards' panels."""
    panels.content("system-mail", draw_mail)
    panels.content("system-janitor", draw_janitor)


async def draw_mail(view: View) -> Children:
    """Return how many mails wait, went and were given up, and why the newest does not go."""
    counted = await ask_mails.count_mails(view.reader, view.now - DAY)
    failed = await ask_mails.find_newest_error(view.reader)
    oldest = counted["oldest_at"]
    is_late = oldest is not None and view.now - oldest > PATIENCE
    shown: list[Part] = [
        stats(
            stat(
                "Waiting",
                formats.count(counted["waiting"]),
                ["the oldest of ", html.Span(moment(view, oldest, relative=True))]
                if oldest
                else None,
                state="BAD" if is_late else "GOOD",
            ),
            stat("Sent", formats.count(counted["sent"]), "in the last day"),
            stat(
                "Given up",
                formats.count(counted["abandoned"]),
                "in the last day",
                state="BAD" if counted["abandoned"] else "",
            ),
        )
    ]
    if not (counted["waiting"] or counted["sent"] or counted["abandoned"]):
        shown.append(
            empty(
                "Nobody was told of anything in the last day.",
                ""
                if view.settings.smtp_host or view.settings.notify_urls
                else "Mails need SLUICEWAY_SMTP_HOST and SLUICEWAY_MAIL_TO, and the process "
                "python -m flows.send_mail --every 10",
            )
        )
    if failed is not None:
        tries = f"{formats.count(failed['attempts'])}, by {failed['channel']}"
        given_up, again = failed["abandoned_at"], moment(view, failed["next_attempt_at"])
        facts: list[tuple[str, Any]] = [
            ("Newest error", hide_addresses(failed["error"])),
            ("Of", hide_addresses(failed["problem"])),
            ("Written", moment(view, failed["created_at"], relative=True)),
            ("Tries", tries),
            ("Next try", "none: given up" if given_up else again),
        ]
        shown.append(
            html.Dl(
                [part for name, said in facts for part in (html.Dt(name), html.Dd(said))],
                className="facts",
            )
        )
    return [each for each in shown if each is not None]


async def draw_janitor(view: View) -> Children:
    """Return what the janitor did last."""
    rows = await ask_janitor.find_acts(view.reader)
    if not rows:
        return empty(
            "The janitor never had to do anything.",
            "`make up` starts it; anywhere else python -m flows.mark_dead_runs --every 30 does.",
        )
    return table(
        ["When", "What", "Pipeline", "Run", "Why"],
        [
            [
                moment(view, row["acted_at"], relative=True),
                row["act"],
                row["pipeline_name"] or formats.NOTHING,
                formats.NOTHING
                if row["execution_id"] is None
                else link(str(row["execution_id"]), f"/runs/{row['execution_id']}"),
                row["reason"],
            ]
            for row in rows
        ],
        caption="What the janitor did",
    )
