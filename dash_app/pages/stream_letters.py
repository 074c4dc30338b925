"""What died in the stream, and what never reached it: the lower half of the stream's page."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Input, html
from dash.development.base_component import Component

from dash_app import formats, grids
from dash_app.figures import PALETTE, Figure, Series, bars, say
from dash_app.grids import Column, Row, Sort
from dash_app.masking import ENCRYPTED, show_reason
from dash_app.panels import Children, Panels, address
from dash_app.parts import aria, card, chart, empty, link, moment, place, table
from dash_app.queries import stream as ask
from dash_app.view import View

RANGES = {"24h": "24 hours", "7d": "7 days", "30d": "30 days"}
_DAYS = {"24h": 1, "7d": 7, "30d": 30}
WAITING, ALL = "waiting", "all"
STATES = {WAITING: "Not loaded yet", ALL: "All"}
MAX_REASONS = 6
"""Kinds of bars that a person can tell apart; the rest are one kind."""
_HATCHES = ("", "/", "x", "\\", ".", "+", "|")
COLUMNS = (
    Column("letter", "Letter", width=90, is_number=True),
    Column("buried", "Buried", width=165),
    Column("reason", "Reason", width=200),
    Column("detail", "What is wrong with it", width=260, grows=True),
    Column("source", "Source", width=130),
    Column("place", "Topic, partition, offset", width=210),
    Column("contract", "Contract", width=110),
    Column("message", "Message", width=110),
    Column("attempts", "Replays", width=90, is_number=True),
    Column("outcome", "Outcome", width=120),
    Column("relayed", "Relayed", width=165),
    Column("run", "Run", width=80),
)
NO_LETTER = "No dead letter was buried in this time."


def lay_out(
    letters: str = "24h", reason: str = "", state: str = WAITING, **_: Any
) -> list[Component]:
    """Return the cards."""
    return [
        address("letters", "letters", "reason", "state"),
        card(
            "Dead letters",
            html.Div(
                dmc.SegmentedControl(
                    id="letters-range",
                    data=[{"value": value, "label": label} for value, label in RANGES.items()],
                    value=letters if letters in RANGES else "24h",
                    size="xs",
                    **aria(label="Time of the dead letters"),
                ),
                className="filters",
            ),
            chart("letters-chart", "Dead letters by reason over time", height=220),
            place("letters-reasons", height=120),
            html.P(
                [
                    (
                        "A dead letter is a message that could not be loaded. To load it after "
                        "all, mend its contract or what sent it, and replay it: "
                    ),
                    html.Code("python -m flows.replay_dead_letters --help"),
                    " says how; it counts first, and loads with ",
                    html.Code("--for-real"),
                    ".",
                ],
                className="card-note",
            ),
            note="Messages that could not be loaded, by reason; hours in your zone, days in UTC.",
        ),
        card(
            "Newest dead letters",
            html.Div(
                [
                    dmc.TextInput(
                        id="letters-reason",
                        label="Reason begins with",
                        value=reason,
                        debounce=400,
                        size="xs",
                        w=220,
                    ),
                    dmc.SegmentedControl(
                        id="letters-state",
                        data=[{"value": value, "label": label} for value, label in STATES.items()],
                        value=state if state in STATES else WAITING,
                        size="xs",
                        **aria(label="Which dead letters"),
                    ),
                ],
                className="filters",
            ),
            grids.long_table(
                "letters-table",
                COLUMNS,
                label="Dead letters",
                empty="No dead letter matches: all is loaded, or the filters are too narrow.",
                height=420,
            ),
            note=f"Of the newest {ask.COUNTED_LETTERS:,} of all groups. What a message said is "
            "never shown here, and one that may be personal is kept encrypted; where the keys are "
            "set, python -m tasks.open_sealed dead-letter prints it by the letter's number.",
        ),
        card("Unsent messages of the producer", place("letters-unsent", height=44)),
    ]


def register(panels: Panels, of: Input) -> None:
    """Connect the cards' panels; of: the chosen stream."""
    letters = Input("letters-range", "value")
    reason, state = Input("letters-reason", "value"), Input("letters-state", "value")
    panels.remember("letters", letters, reason, state)
    panels.figure("letters-chart", draw_chart, of, letters)
    panels.content("letters-reasons", draw_reasons, of, letters)
    grids.register(panels, "letters-table", COLUMNS, fetch_letters, of, reason, state)
    panels.content("letters-unsent", draw_unsent)


def _since(view: View, letters: str) -> dt.datetime:
    """Return the beginning of an hour or, where days are shown, of a day in UTC."""
    days = _DAYS.get(letters, 1)
    if days == 1:
        return (view.now - dt.timedelta(days=1)).replace(minute=0, second=0, microsecond=0)
    midnight = view.now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - dt.timedelta(days=days - 1)


async def draw_chart(view: View, of: str | None, letters: str) -> Figure:
    """Return dead letters by reason over time."""
    stream = await ask.choose_stream(view.reader, of)
    if stream is None:
        return say(view, NO_LETTER)
    unit = "hour" if _DAYS.get(letters, 1) == 1 else "day"
    rows = await ask.chart_letters(view.reader, stream, _since(view, letters), unit)
    if not rows:
        return say(view, NO_LETTER)
    totals = Counter[str]()
    for row in rows:
        totals[row["reason"]] += row["letters"]
    named = [reason for reason, _ in totals.most_common(MAX_REASONS)]
    counted: dict[str, Counter[dt.datetime]] = defaultdict(Counter)
    for row in rows:
        counted[row["reason"] if row["reason"] in named else "other reasons"][row["at"]] += row[
            "letters"
        ]
    return bars(
        view,
        [
            Series(
                name,
                [view.local(at) if unit == "hour" else at.date().isoformat() for at in found],
                list(found.values()),
                PALETTE[place_ % len(PALETTE)],
                hatch=_HATCHES[place_ % len(_HATCHES)],
            )
            for place_, (name, found) in enumerate(counted.items())
        ],
        unit="letters",
    )


async def draw_reasons(view: View, of: str | None, letters: str) -> Children:
    """Return dead letters by reason and source, and what became of them."""
    stream = await ask.choose_stream(view.reader, of)
    since = _since(view, letters)
    rows = await ask.count_letters(view.reader, stream, since) if stream else []
    if not rows:
        return empty(NO_LETTER, "There is nothing to do.")
    drawn = table(
        ["Reason", "Source", "Letters", "Not loaded yet", "Failed again", "Loaded", "Too late",
         "Not relayed", "Newest"],
        [
            [
                row["reason"],
                row["source"] or formats.NOTHING,
                *(
                    formats.count(row[name])
                    for name in ("letters", "waiting", "failed", "loaded", "late", "not_relayed")
                ),
                moment(view, row["last_at"], relative=True),
            ]
            for row in rows
        ],
        caption="Dead letters by reason and source",
        numbers=(2, 3, 4, 5, 6, 7),
    )  # fmt: skip
    if rows[0]["counted"] < ask.COUNTED_LETTERS:
        return drawn
    said = f"There are more: the newest {formats.count(ask.COUNTED_LETTERS)} were counted."
    return [html.P(said, className="card-note"), drawn]


async def fetch_letters(
    view: View, filters: Sequence[Any], sort: Sort | None, start: int, end: int
) -> tuple[Sequence[Row], int | None]:
    """Return a page of dead letters, newest first."""
    del sort
    of, reason, state = filters
    stream = await ask.choose_stream(view.reader, of)
    if stream is None:
        return [], 0
    rows = await ask.find_letters(
        view.reader,
        stream,
        until=view.now,
        reason=str(reason or ""),
        is_waiting=state != ALL,
        first=start,
        count=end - start,
    )
    return [
        {
            "id": row["id"],
            "letter": row["id"],
            "buried": grids.moment_cell(view, row["buried_at"]),
            "reason": grids.text_cell(row["reason"]),
            # What is wrong is said without the message's values; what slipped in is hidden.
            "detail": grids.text_cell(show_reason(row["source"] or "", row["detail"])),
            "source": grids.text_cell(row["source"] or formats.NOTHING),
            "place": f"{row['topic']} {row['partition']} {row['message_offset']}",
            "contract": row["contract_version"] or formats.NOTHING,
            "message": ENCRYPTED if row["is_sealed"] else "as received",
            "attempts": row["attempts"],
            "outcome": row["outcome"] or "waits",
            "relayed": grids.moment_cell(view, row["relayed_at"]),
            "run": grids.link_cell(str(row["execution_id"]), f"/runs/{row['execution_id']}")
            if row["execution_id"]
            else formats.NOTHING,
        }
        for row in rows
    ], None


async def draw_unsent(view: View) -> Children:
    """Return what the producer could not send, by reason."""
    rows = await ask.count_unsent(view.reader)
    if not rows:
        return empty("Every message was sent.", "What a broker refuses is kept and counted here.")
    more = "+" if rows[0]["counted"] >= ask.COUNTED_UNSENT else ""
    return [
        table(
            ["Topic", "Reason", "Messages", "Most attempts", "First number", "Oldest"],
            [
                [
                    row["topic"],
                    row["reason"],
                    f"{formats.count(row['messages'])}{more}",
                    str(row["attempts"]),
                    str(row["first_id"]),
                    moment(view, row["first_at"], relative=True),
                ]
                for row in rows
            ],
            caption="Unsent messages by topic and reason",
            numbers=(2, 3, 4),
        ),
        html.P(
            [
                (
                    "The producer's next run sends them again, a few times at most; what is too "
                    "large waits for a person. See "
                ),
                link("its runs", "/runs?pipeline=kafka_data_ingestion"),
                ". Where the keys are set, this prints one by its number: ",
                html.Code("python -m tasks.open_sealed unsent"),
                ".",
            ],
            className="card-note",
        ),
    ]
