"""Parts of mails that several kinds have: the run, what it loaded, where to look."""

import socket

from infra.log_rows import cut
from infra.mail.document import Block, Footer, Heading, Item, Items, Links, Paragraph
from infra.settings import Settings
from tasks.mail_runs import Run
from tasks.mail_words import count, duration, equation, moment

PREFIX = "[Sluiceway]"
"""What every subject begins with."""
_PAGES = {
    "/": "The dashboard",
    "/runs": "All runs",
    "/system": "Health and uptime",
    "/quality": "Quality",
}


def run_facts(run: Run | None) -> list[tuple[str, str]]:
    """Return which run it was, when and where."""
    if run is None:
        return []
    facts = [("Run", str(run.id)), ("Started", moment(run.start_time))]
    if run.end_time is not None:
        facts.append(("Ran for", duration(run.end_time - run.start_time)))
    if run.records_processed:
        facts.append(("Rows", f"{run.records_processed:,}"))
    return [*facts, ("Host", run.host)] if run.host else facts


def what_was_loaded(run: Run) -> list[Block]:
    """Return what the run did not load and why, and then what it loaded."""
    blocks: list[Block] = []
    refused = [each for each in run.sources if each.status == "REFUSED"]
    loaded = [each for each in run.sources if each.status == "LOADED"]
    if refused:
        shown = tuple(Item(_file(each.path), "", cut(each.message, 500)) for each in refused)
        blocks += [Heading("Not loaded"), Items(shown)]
    if run.missed:
        files = ", ".join(map(_file, run.missed))
        blocks.append(Paragraph(f"Not reached, though the last good run had them: {files}."))
    if loaded:
        rows = [each.ledger.loaded if each.ledger else 0 for each in loaded]
        notes = [equation(each.ledger) if each.ledger else each.message for each in loaded]
        shown = tuple(
            Item(_file(each.path), count(number, "row"), f"{each.dataset}: {note}")
            for each, number, note in zip(loaded, rows, notes, strict=True)
        )
        blocks += [Heading("Loaded"), Items(shown)]
    if run.streamed:
        shown = tuple(
            Item(dataset, count(ledger.loaded, "row"), equation(ledger))
            for dataset, ledger in run.streamed.items()
        )
        blocks += [Heading("Loaded from messages, most recently"), Items(shown)]
    left = sum(run.source_counts.values()) - len(run.sources)
    unchanged = run.source_counts.get("UNCHANGED", 0)
    if unchanged:
        blocks.append(
            Paragraph(
                f"Unchanged since its last load, and left alone: {count(unchanged, 'source')}."
            )
        )
    if left > unchanged:
        blocks.append(Paragraph(f"And {count(left - unchanged, 'source')} more."))
    if not blocks and run.status == "FAILED":
        blocks.append(Paragraph("The run had loaded nothing by then."))
    return blocks


def links(
    settings: Settings, run: Run | None, *, run_id: int | None = None, page: str = ""
) -> list[Block]:
    """Return where to look, as far as the settings say where anything is.

    run_id: where no run is at hand. page: of the dashboard, with its query.
    """
    pairs = []
    board = settings.dashboard_url.rstrip("/")
    shown_id = run.id if run is not None else run_id
    if board and shown_id is not None:
        pairs.append(("The run in the dashboard", f"{board}/runs/{shown_id}"))
    if board and page:
        pairs.append((_PAGES[page.partition("?")[0]], f"{board}{page}"))
    prefect = settings.prefect_ui_url.rstrip("/")
    if prefect and run is not None and run.flow_run_id is not None:
        pairs.append(("The run in Prefect", f"{prefect}/runs/flow-run/{run.flow_run_id}"))
    return [Links(tuple(pairs))] if pairs else []


def _file(path: str) -> str:
    """Return the last part of a path, which a phone has room for."""
    return path.rstrip("/").rsplit("/", 1)[-1] or path


def footer(settings: Settings) -> Block:
    """Return who sends this, and how often."""
    return Footer(
        f"Sluiceway on {socket.gethostname()}. At most one mail about one problem in "
        f"{count(settings.mail_minutes, 'minute')}; it counts what happened since."
    )
