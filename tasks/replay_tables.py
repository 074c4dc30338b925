"""What a replay did as a table: in the Prefect UI, and on the terminal of whoever started it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import acreate_table_artifact
from rich.console import Console
from rich.table import Table

from tasks.letter_outcomes import Outcome
from tasks.replay_dead_letters import Replay
from tasks.replay_topic import TopicReplay

Row = Mapping[str, Any]
_NO_SOURCE = "(none)"


def tabulate_letters(replay: Replay) -> list[Row]:
    """Return a row for each source and reason; in a dry run, with what would be replayed."""
    rows: list[Row] = []
    for each in replay.plan.counts:
        outcomes = replay.outcomes.get((each.source, each.reason), Counter())
        done = {} if replay.dry_run else {name.value: outcomes[name] for name in Outcome}
        rows.append(
            {
                "source": each.source or _NO_SOURCE,
                "reason": each.reason,
                "to replay": each.letters,
                **done,
                "left alone": each.worn_out + each.keyless,
                "first buried": _time(each.first_buried_at),
                "last buried": _time(each.last_buried_at),
            }
        )
    return rows


def tabulate_topic(replay: TopicReplay) -> list[Row]:
    """Return a row for each dataset that messages were of."""
    return [
        {
            "dataset": table,
            "read": ledger.read,
            "inserted": ledger.inserted,
            "updated": ledger.updated,
            "unchanged": ledger.unchanged,
            "superseded": ledger.superseded,
            "duplicates": ledger.duplicates,
            "dead letters": ledger.quarantined,
        }
        for table, ledger in sorted(replay.ledgers.items())
    ]


async def publish_table(key: str, rows: Sequence[Row], description: str) -> None:
    """Leave the rows as an artifact of the flow run."""
    await acreate_table_artifact(
        key=key, table=[dict(each) for each in rows], description=description
    )


def print_table(rows: Sequence[Row], summary: str) -> None:
    """Print the rows and the sentence below them on the terminal."""
    console = Console()
    if rows:
        table = Table(*rows[0].keys())
        for each in rows:
            table.add_row(*(str(value) for value in each.values()))
        console.print(table)
    console.print(summary, markup=False, highlight=False, soft_wrap=True)


def _time(moment: Any) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
