"""The SQL of micro-batches: the batch's merge over temporary tables that a session keeps.

Hundreds of small batches a minute would else fill the catalogue with the tables they make and
drop. Which rows lose within a batch is worked out before it is sent, and is a column of it.
"""

import datetime as dt
import re
from dataclasses import dataclass

from infra.postgres.identifiers import qualify, quote
from infra.postgres.layout import (
    LANDED_COLUMNS,
    LINEAGE_COLUMNS,
    STAGING,
    staging_table,
    stored_columns,
)
from infra.postgres.merge_sql import (
    CHANGED,
    CONFIRMED,
    NEW,
    PLACE,
    SUPERSEDED,
    UNCHANGED,
    VERDICT,
    MergeSql,
)
from schemas.dataset import Role, Spec

LOSES = "_loses"
"""Of the landing table: whether another row of the batch won the row's key."""

_SESSION = "pg_temp"


@dataclass(frozen=True, slots=True)
class SessionSql(MergeSql):
    """The statements of one dataset's merge, over the landing table of a session."""

    @property
    def landing(self) -> str:
        """The quoted, qualified name of the session's table, empty when a transaction begins."""
        return qualify(_SESSION, self.landing_name)

    @property
    def verdicts(self) -> str:
        """The quoted name of the temporary table of judged rows."""
        return qualify(_SESSION, f"{self.landing_name}_verdicts")

    def create_tables(self) -> tuple[str, ...]:
        """Leave the session's landing table, and that of the verdicts where rows are merged."""
        own = stored_columns(self.spec) + LANDED_COLUMNS + LINEAGE_COLUMNS
        columns = [f"{quote(name)} {kind}" for name, kind in own]
        columns.append(f"{quote(LOSES)} boolean NOT NULL")
        landing = (
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {quote(self.landing_name)}"
            f" ({', '.join(columns)}) ON COMMIT DELETE ROWS"
        )
        if self.spec.role is Role.STAGING:
            return (landing,)
        judged = self._judged(has_repeated=False, only_news=False)
        verdicts = (
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {quote(self.landing_name + '_verdicts')}"
            f" ON COMMIT DELETE ROWS AS{judged}WITH NO DATA"
        )
        return landing, verdicts

    def create_staged(self, table: str) -> tuple[str, ...]:
        """Leave a child of the dataset's staging table for messages, by the name `day_table` gives.

        Old messages then go with their day's table, and a replay looks up offsets by the block.
        """
        staged, index = qualify(STAGING, table), quote(f"{table}_line")
        brin = 'USING brin ("_line") WITH (pages_per_range = 32, autosummarize = on)'
        return (
            f"CREATE TABLE IF NOT EXISTS {staged} () INHERITS ({staging_table(self.spec)})",
            f"CREATE INDEX IF NOT EXISTS {index} ON {staged} {brin}",
        )

    def stage(self, into: str, *, only_missing: bool) -> str:
        """Copy the landed rows into a table of the schema staging.

        only_missing: leave out what is there already, by its message's topic, partition, offset
        and time (a topic that was made anew has others at the same offsets); for messages that
        are read again.
        """
        own = stored_columns(self.spec) + LANDED_COLUMNS + LINEAGE_COLUMNS
        listed = ", ".join(quote(name) for name, _ in own)
        staging = staging_table(self.spec)
        missing = (
            f"""
WHERE NOT EXISTS (
    SELECT FROM {staging} AS s
    WHERE s."_source" = l."_source" AND s."_line" = l."_line" AND s."_version" = l."_version"
        AND s."_line" >= (SELECT min(m."_line") FROM {self.landing} AS m)
        AND s."_line" <= (SELECT max(m."_line") FROM {self.landing} AS m)
)"""
            if only_missing
            else ""
        )
        return f"""
INSERT INTO {qualify(STAGING, into)} ({listed})
SELECT {listed} FROM {self.landing} AS l{missing}
"""

    def empty(self) -> tuple[str, ...]:
        """Leave the session's tables empty within a transaction, before they are used again."""
        tables = [self.landing]
        if self.spec.role is not Role.STAGING:
            tables.append(self.verdicts)
        return tuple(f"DELETE FROM {each}" for each in tables)

    def upsert(self) -> str:
        """Insert and update a fact's rows in one pass, and count them; $1 is the batch's number.

        One statement that looks each key up once, where judging first looks it up twice. Columns:
        n, c and f, as the verdicts are called; rows that are not newer than what is there are in
        none of them, and told apart by `classify_rest`. Not for dimensions, whose inferred
        members and versions need a verdict first.
        """
        assignments = ", ".join(
            f"{quote(name)} = excluded.{quote(name)}"
            for name in self.columns
            if name not in self.spec.key and name != "_batch_id"
        )
        place, excluded = '(t."_version", t."_line")', '(excluded."_version", excluded."_line")'
        differs = 't."_row_hash" <> excluded."_row_hash"'
        return f"""
WITH merged AS (
INSERT INTO {self.target.table} AS t ({self._column_list()})
SELECT {self._select_list}
FROM {self.landing} AS l
{self._joins()}
WHERE NOT l.{quote(LOSES)}
ON CONFLICT ({self._key()}) DO UPDATE SET {assignments},
    "_batch_id" = CASE WHEN {differs} THEN excluded."_batch_id" ELSE t."_batch_id" END
WHERE {place} < {excluded} OR ({place} = {excluded} AND {differs})
RETURNING xmax = 0 AS is_new, "_batch_id" = $1 AS is_mine
)
SELECT
    count(*) FILTER (WHERE is_new) AS "{NEW}",
    count(*) FILTER (WHERE NOT is_new AND is_mine) AS "{CHANGED}",
    count(*) FILTER (WHERE NOT is_mine) AS "{CONFIRMED}"
FROM merged
"""

    def classify_rest(self) -> str:
        """Count the winners of the batch $1 that left the row that is there saying what it said.

        Columns: u says the same, confirmed now or before; s says something else, and is older.
        """
        same = 't."_row_hash" = l."_row_hash"'
        return f"""
SELECT
    count(*) FILTER (WHERE {same}) AS "{UNCHANGED}",
    count(*) FILTER (WHERE NOT ({same})) AS "{SUPERSEDED}"
FROM {self.landing} AS l
JOIN {self.target.table} AS t ON {self._key_matches("t", "l")}
WHERE NOT l.{quote(LOSES)} AND t."_batch_id" <> $1
"""

    def confirm(self) -> str:
        """Note of confirmed rows as of when they hold; what they say stays untouched."""
        return f"""
UPDATE {self.target.table} AS t SET "_version" = v."_version", "_line" = v."_line"
FROM {self.verdicts} AS v
WHERE v.{VERDICT} = '{CONFIRMED}' AND t.ctid = v.{PLACE}
"""

    def _without_repeated(self, has_repeated: bool) -> str:  # noqa: FBT001 - as MergeSql has it
        return f"WHERE NOT l.{quote(LOSES)}" if has_repeated else ""

    def _confirmed(self, inferred: str) -> str:
        # A later batch may bring what was said in between: it must find that it is too late.
        return (
            f"""\n        WHEN t."_row_hash" = l."_row_hash"{inferred}"""
            f""" AND (t."_version", t."_line") < ({self.version}, l."_line") THEN '{CONFIRMED}'"""
        )

    def _into_verdicts(self) -> str:
        return f"INSERT INTO {self.verdicts}"


DAY_TABLE = re.compile(r"__s([0-9]{8})\Z")


def day_table(spec: Spec, day: dt.date) -> str:
    """Return the name of the table of messages staged on a day; no dataset has two underscores."""
    return f"{spec.table}__s{day:%Y%m%d}"


def session_sql(spec: Spec) -> SessionSql:
    """Return the statements over the session's landing table of a dataset."""
    return SessionSql(spec, f"{spec.table}__session")
