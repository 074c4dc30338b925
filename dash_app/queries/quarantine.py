"""Which rows of the quarantine are asked for, page by page, the newest first."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from dash_app.masking import impersonal
from dash_app.reader import Reader

REACH = 10_000
"""How many rows, the newest of those that are chosen, the page can show; a text is looked for in
these. The index of each filter leads to them, however many there are behind."""
RAW_CHARACTERS = 32_767
"""As many as a spreadsheet's cell holds; what is longer is cut."""
_LIST_RAW_CHARACTERS = 300
_MAX_CHARACTERS = 200
_DATASETS = """
    WITH RECURSIVE named AS (
        (SELECT dataset FROM metadata.quarantine ORDER BY dataset LIMIT 1)
        UNION ALL
        SELECT (SELECT f.dataset FROM metadata.quarantine AS f
                WHERE f.dataset > named.dataset ORDER BY 1 LIMIT 1)
        FROM named WHERE named.dataset IS NOT NULL
    )
    SELECT dataset FROM named WHERE dataset IS NOT NULL
"""
_KNOWN = """id, execution_id, batch_id, dataset, source, line, rule, column_name, reason,
    contract_version, quarantined_at, replayed_at, outcome"""
"""Of a row; what it said is `raw`, and null where it is encrypted."""
_NO_RUN = -1
_ID_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Choice:
    """The filters; empty ones let everything through."""

    dataset: str = ""
    rule: str = ""
    execution: int | None = None
    text: str = ""
    """To be found in the reason, whatever the case of its letters."""


def read_choice(dataset: object, rule: object, execution: object, text: object) -> Choice:
    """Return the filters that an address or a browser asks for, whatever it sent.

    A run's number that is none finds nothing: ignoring it would show the rows of other runs.
    """
    number = _read_text(execution)
    is_number = number.isascii() and number.isdecimal() and len(number) <= _ID_DIGITS
    return Choice(
        dataset=_read_text(dataset),
        rule=_read_text(rule),
        execution=(int(number) if is_number else _NO_RUN) if number else None,
        text=_read_text(text),
    )


async def find_page(
    reader: Reader, choice: Choice, *, until: dt.datetime, start: int, end: int
) -> list[asyncpg.Record]:
    """Return the chosen rows from the place `start` up to before `end`, their text cut.

    until: rows that came later are left out.
    """
    asked = _Asked()
    limit = REACH if choice.text else min(end, REACH)
    chosen = asked.rows(choice, asked.newest(choice, limit, until=until))
    return await reader.fetch(
        f"""
        SELECT id, execution_id, dataset, source, line, rule, column_name, reason,
            left(raw, {asked.give(_LIST_RAW_CHARACTERS)}) AS raw, quarantined_at, replayed_at,
            outcome
        FROM ({chosen}) AS chosen
        ORDER BY id DESC OFFSET {asked.give(start)} LIMIT {asked.give(max(0, end - start))}
        """,  # noqa: S608 - this module's constants and the numbers of parameters
        *asked.values,
    )


async def count(reader: Reader, choice: Choice, *, until: dt.datetime) -> int:
    """Return how many rows are chosen, REACH where there are as many or more."""
    asked = _Asked()
    chosen = asked.newest(choice, REACH, until=until)
    if choice.text:
        chosen = asked.rows(choice, chosen)
    found: int = await reader.fetchval(
        f"SELECT count(*) FROM ({chosen}) AS chosen",  # noqa: S608 - likewise
        *asked.values,
    )
    return found


async def find_before(
    reader: Reader, choice: Choice, *, before: int | None, limit: int
) -> list[asyncpg.Record]:
    """Return the newest rows that are older than the row `before`; the text is not asked.

    Whoever goes on with the last one's id comes to every row, and holds no connection meanwhile.
    """
    asked = _Asked()
    chosen = asked.rows(Choice(), asked.newest(choice, limit, before=before))
    return await reader.fetch(
        f"""
        SELECT {_KNOWN}, length(raw) AS raw_characters,
            left(raw, {asked.give(RAW_CHARACTERS)}) AS raw
        FROM ({chosen}) AS chosen ORDER BY id DESC
        """,  # noqa: S608 - likewise
        *asked.values,
    )


async def find_one(reader: Reader, row_id: int) -> asyncpg.Record | None:
    """Return one row, its text cut where it is very long, and null where it is encrypted."""
    return await reader.fetchrow(
        f"""
        SELECT {_KNOWN}, length(raw) AS raw_characters, left(raw, $2) AS raw
        FROM metadata.quarantine WHERE id = $1
        """,  # noqa: S608 - likewise
        row_id,
        RAW_CHARACTERS,
    )


async def find_choices(reader: Reader) -> list[tuple[str, str]]:
    """Return which datasets have rows in quarantine, with the rules these broke."""
    # A skip scan: from one dataset's rule to the next, over the index.
    rows = await reader.fetch(
        """
        WITH RECURSIVE named AS (
            (SELECT dataset, rule FROM metadata.quarantine ORDER BY dataset, rule LIMIT 1)
            UNION ALL
            SELECT following.* FROM named, LATERAL (
                SELECT q.dataset, q.rule FROM metadata.quarantine AS q
                WHERE (q.dataset, q.rule) > (named.dataset, named.rule)
                ORDER BY q.dataset, q.rule LIMIT 1
            ) AS following
        )
        SELECT dataset, rule FROM named LIMIT 1000
        """
    )
    return [(row["dataset"], row["rule"]) for row in rows]


class _Asked:
    """A statement's parameters, numbered as they are given."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def give(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def newest(
        self,
        choice: Choice,
        limit: int,
        *,
        before: int | None = None,
        until: dt.datetime | None = None,
    ) -> str:
        """Return a query of the numbers of the newest rows that are chosen, but for the text."""
        filters = []
        if until is not None:
            filters.append(
                "q.id <= (SELECT u.id FROM metadata.quarantine AS u"  # noqa: S608 - likewise
                f" WHERE u.quarantined_at <= {self.give(until)} ORDER BY u.id DESC LIMIT 1)"
            )
        if before is not None:
            filters.append(f"q.id < {self.give(before)}")
        run = None if choice.execution is None else self.give(choice.execution)
        shown = self.give(limit)
        if not choice.dataset and not choice.rule:
            filters += [] if run is None else [f"q.execution_id = {run}"]
            return f"{_numbers(filters)} LIMIT {shown}"
        if choice.rule:
            filters.append(f"q.rule = {self.give(choice.rule)}")
        dataset = self.give(choice.dataset) if choice.dataset else "named.dataset"
        filters.append(f"q.dataset = {dataset}")
        numbers = _numbers(filters) if run is None else _numbers_of_run(filters, run)
        if choice.dataset:
            return f"{numbers} LIMIT {shown}"
        # The index is by dataset first: the newest of each dataset, and the newest of these.
        return f"""
            SELECT newest.id FROM ({_DATASETS}) AS named,
                LATERAL ({numbers} LIMIT {shown}) AS newest
            ORDER BY newest.id DESC LIMIT {shown}
        """  # noqa: S608 - likewise

    def rows(self, choice: Choice, numbers: str) -> str:
        """Return a query of the rows of these numbers, those with the text in their reason."""
        # OFFSET 0 lets each row be looked up by its number; joined, all would be read.
        return f"""
            SELECT chosen.* FROM ({numbers}) AS numbered, LATERAL (
                SELECT {_KNOWN}, raw FROM metadata.quarantine AS q WHERE q.id = numbered.id OFFSET 0
            ) AS chosen {self._saying(choice)}
        """  # noqa: S608 - likewise

    def _saying(self, choice: Choice) -> str:
        if not choice.text:
            return ""
        # What is hidden on the page cannot be guessed by searching for it either.
        open_datasets = self.give(sorted(impersonal()))
        return (
            f"WHERE strpos(lower(CASE WHEN chosen.dataset = ANY({open_datasets}) THEN chosen.reason"
            " ELSE regexp_replace(chosen.reason, '''.*''', '') END),"
            f" lower({self.give(choice.text)})) > 0"
        )


def _numbers(filters: Sequence[str]) -> str:
    where = f"WHERE {' AND '.join(filters)}" if filters else ""
    return f"SELECT q.id FROM metadata.quarantine AS q {where} ORDER BY q.id DESC"  # noqa: S608 - likewise


def _numbers_of_run(filters: Sequence[str], run: str) -> str:
    """Return a query of the numbers of one run's rows; a run's rows lie close together.

    Without the fences PostgreSQL may walk through all rows of a run to find few of a rule.
    """
    first, last = (
        f"(SELECT {bound}(b.id) FROM metadata.quarantine AS b WHERE b.execution_id = {run})"  # noqa: S608 - likewise
        for bound in ("min", "max")
    )
    near = _numbers([*filters, f"q.id >= {first}", f"q.id <= {last}"])
    return f"""
        SELECT near.id FROM ({near} OFFSET 0) AS near, LATERAL (
            SELECT FROM metadata.quarantine AS r
            WHERE r.id = near.id AND r.execution_id = {run} OFFSET 0
        ) AS mine
        ORDER BY near.id DESC
    """  # noqa: S608 - likewise


def _read_text(given: object) -> str:
    # PostgreSQL knows no text with this character.
    return str(given).replace("\0", "").strip()[:_MAX_CHARACTERS] if given else ""
