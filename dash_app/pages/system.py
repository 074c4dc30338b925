"""The system: are the parts alive."""

import datetime as dt
import os
import socket
from typing import Any

import psutil
from dash import html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.pages import system_maintenance, system_uptime, system_watch
from dash_app.panels import Children, Panels
from dash_app.parts import badge, card, empty, grid, moment, page, place, stat, stats, table
from dash_app.queries import system as ask
from dash_app.view import View

PATH, NAME, TITLE = "/system", "System", "System"
RECENT = dt.timedelta(minutes=10)
"""A check that is older says nothing about now."""
OLD_TRANSACTION_SECONDS = 3600.0
"""One that lasts longer keeps PostgreSQL from clearing away old rows."""
MUCH = 0.9
"""A share beyond this leaves little room."""
NOT_RECORDED = "Not recorded yet:"
NO_CHECK = (
    "no part has been checked. `make up` starts the checks; anywhere else start "
    "python -m flows.check_health --every 60 and keep it running."
)

# The first answer is the share since the call before: let there be one.
psutil.cpu_percent()


def lay_out(**given: Any) -> Component:
    """Return the page."""
    return page(
        "Are the parts alive?",
        card("Health checks", place("system-checks", height=120), note="The newest of each part."),
        *system_uptime.lay_out(**given),
        *system_maintenance.lay_out(),
        system_watch.lay_out(),
        grid(
            card("PostgreSQL", place("system-server", height=200)),
            card(
                "PostgreSQL's connections",
                place("system-connections", height=120),
                note="By role and state, as far as the dashboard's role is told; the limit is the "
                "role's own.",
            ),
            card(
                "This dashboard's connections",
                place("system-pool", height=84),
                note="Its own pool, in this process.",
            ),
            card(
                "This dashboard's machine",
                place("system-host", height=84),
                note="The machine that serves these pages: PostgreSQL, Kafka and the flows may "
                "run on others.",
            ),
            least=460,
        ),
    )


def register(panels: Panels) -> None:
    """Connect the page's panels."""
    panels.content("system-checks", draw_checks)
    system_uptime.register(panels)
    system_maintenance.register(panels)
    system_watch.register(panels)
    panels.content("system-server", draw_server)
    panels.content("system-connections", draw_connections)
    panels.content("system-pool", draw_pool)
    panels.content("system-host", draw_host)


async def draw_checks(view: View) -> Children:
    """Return the newest health check of each component."""
    rows = await ask.find_checks(view.reader)
    if not rows:
        return empty(NOT_RECORDED, NO_CHECK)
    return table(
        ["Part", "State", "Latency", "What was found", "Checked"],
        [
            [
                row["component"],
                badge(row["status"] if _is_recent(view, row["checked_at"]) else "UNKNOWN"),
                _latency(row["latency_seconds"]),
                _found(view, row),
                moment(view, row["checked_at"], relative=True),
            ]
            for row in rows
        ],
        caption="Health checks",
        numbers=(2,),
    )


def _is_recent(view: View, at: dt.datetime) -> bool:
    return view.now - at <= RECENT


def _found(view: View, row: Any) -> str:
    said = row["detail"] or ""
    if _is_recent(view, row["checked_at"]):
        return said
    last = f"the last check was {formats.sign_of(row['status']).word}"
    return f"Nobody checks it any more; {last}{': ' if said else ''}{said}"


def _latency(seconds: float | None) -> str:
    return formats.NOTHING if seconds is None else f"{seconds * 1000:,.1f} ms"


async def draw_server(view: View) -> Children:
    """Return how PostgreSQL is."""
    row = await ask.describe_server(view.reader)
    looked_up = row["blks_hit"] + row["blks_read"]
    oldest = None if row["oldest_at"] is None else view.age(row["oldest_at"])
    is_old = oldest is not None and oldest > OLD_TRANSACTION_SECONDS
    return stats(
        stat("Size of the database", formats.size(row["size_bytes"])),
        stat(
            "Cache hit ratio",
            formats.share(row["blks_hit"], looked_up),
            "pages found in shared buffers",
        ),
        stat(
            "Oldest transaction",
            formats.duration(oldest) if oldest is not None else "none",
            "of all roles" if row["sees_all"] else "of those this role may see: its own",
            state="BAD" if is_old else "",
        ),
        stat("Deadlocks", formats.count(row["deadlocks"]), "since the statistics were reset"),
        stat(
            "Version",
            row["version"].split(" ")[0],
            ["started ", html.Span(moment(view, row["started_at"]))],
        ),
    )


async def draw_connections(view: View) -> Children:
    """Return how many connections there are, and whose."""
    rows = await ask.count_connections(view.reader)
    most = (await ask.describe_server(view.reader))["max_connections"]
    total = sum(row["connections"] for row in rows)
    return [
        stats(
            stat(
                "All databases",
                f"{total} of {most}",
                "of max_connections",
                state="BAD" if total > MUCH * most else "GOOD",
            )
        ),
        table(
            ["Role", "State", "Connections", "Limit"],
            [
                [
                    row["role"] or formats.NOTHING,
                    row["state"] or "not shown to this role",
                    str(row["connections"]),
                    formats.count(row["most"]),
                ]
                for row in rows
            ],
            caption="Connections by role and state",
            numbers=(2, 3),
        ),
    ]


async def draw_pool(view: View) -> Children:
    """Return how the dashboard uses its own connections."""
    found = ask.pool_use(view.reader)
    if found is None:
        return empty("No pool is open.", "Start the dashboard again.")
    in_use = found.opened - found.idle
    return stats(
        stat(
            "In use",
            f"{in_use} of {found.most}",
            "at this moment",
            state="BAD" if in_use >= found.most else "GOOD",
        ),
        stat("Open", str(found.opened), f"{found.idle} idle"),
    )


async def draw_host(view: View) -> Children:
    """Return what is left of the machine that runs this process."""
    del view
    memory = psutil.virtual_memory()
    disk = psutil.disk_usage(os.sep)
    load, *_rest = psutil.getloadavg()
    return stats(
        stat(
            "CPU",
            f"{psutil.cpu_percent():.0f} %",
            f"of {psutil.cpu_count() or 1} cores, load {load:.1f}, on {socket.gethostname()}",
        ),
        stat(
            "Memory in use",
            formats.share(memory.total - memory.available, memory.total),
            f"{formats.size(memory.available)} of {formats.size(memory.total)} left",
            state="BAD" if memory.available < (1 - MUCH) * memory.total else "GOOD",
        ),
        stat(
            "Disk in use",
            formats.share(disk.used, disk.used + disk.free),
            f"{formats.size(disk.free)} of {formats.size(disk.total)} left on {os.sep}",
            state="BAD" if disk.used > MUCH * (disk.used + disk.free) else "GOOD",
        ),
        stat("This process", formats.size(psutil.Process().memory_info().rss), "of memory"),
    )
