"""The SQL that takes a landed batch into the warehouse, derived from the dataset's contract.

Pure text: tasks/merge.py runs it, and tests/golden holds it, so that a change is read in review.
Every statement works on one batch in a landing table `l`, under the dataset's advisory lock.
"""

from dataclasses import dataclass

from infra.postgres.identifiers import qualify, quote
from infra.postgres.layout import STAGING, Target, sql_type, staging_table
from schemas.dataset import Column, Spec

PLACE, VERDICT = quote("_place"), quote("_verdict")
"""Columns of the table of verdicts: where the row it is compared with stands, and what it is."""

NEW, UNCHANGED, SUPERSEDED, CHANGED, AMENDED, CONFIRMED = "n", "u", "s", "c", "a", "f"
"""Verdicts on an incoming row; AMENDED is a change in place of a row that keeps versions,
CONFIRMED says the same as the row that is there, but later."""
_NEWS = f"'{NEW}', '{CHANGED}', '{AMENDED}'"
_COUNTS = ", ".join(
    f"""count(*) FILTER (WHERE {VERDICT} = '{each}') AS "{each}\""""
    for each in (NEW, UNCHANGED, SUPERSEDED, CHANGED, AMENDED, CONFIRMED)
)


@dataclass(frozen=True, slots=True)
class MergeSql:
    """The statements of one dataset's merge, over one landing table."""

    spec: Spec
    landing_name: str
    """The batch's table in the schema staging, or in the session."""

    @property
    def suspects(self) -> str:
        """The quoted name of the table of keys that may occur twice in the batch.

        It and `repeated` are no temporary tables: those would keep parallel workers out of every
        statement that names one. Nor are they unlogged: one made in a transaction that is rolled
        back can keep PostgreSQL from starting after a crash ("could not create file … exists").
        Both are dropped by `drop_working_tables`.
        """
        return qualify(STAGING, self.suspects_name)

    @property
    def suspects_name(self) -> str:
        """The same without its schema."""
        return f"{self.landing_name}_suspects"

    @property
    def repeated(self) -> str:
        """The quoted name of the table of rows that lose within the batch."""
        return qualify(STAGING, f"{self.landing_name}_repeated")

    @property
    def landing(self) -> str:
        """The quoted, qualified name of the batch's table."""
        return qualify(STAGING, self.landing_name)

    @property
    def verdicts(self) -> str:
        """The quoted name of the temporary table of judged rows."""
        return quote("_verdicts")

    @property
    def target(self) -> Target:
        """The dataset's table in the warehouse."""
        return Target(self.spec)

    @property
    def version(self) -> str:
        """The expression that says how new an incoming row is."""
        return f"l.{quote(self.spec.version or '_version')}"

    def _key(self, alias: str = "") -> str:
        prefix = f"{alias}." if alias else ""
        return ", ".join(f"{prefix}{quote(name)}" for name in self.spec.key)

    def _key_matches(self, left: str, right: str) -> str:
        return " AND ".join(
            f"{left}.{quote(name)} = {right}.{quote(name)}" for name in self.spec.key
        )

    def create_suspects(self) -> str:
        """Make room for the keys that may occur twice in the batch; COPY fills it."""
        columns = ", ".join(
            f"{quote(name)} {sql_type(self.spec.column(name))}" for name in self.spec.key
        )
        return f"CREATE TABLE {self.suspects} ({columns})"

    def suspect_all(self) -> str:
        """Name the keys that occur twice in the batch, by looking at every row."""
        return f"""
CREATE TABLE {self.suspects} AS
SELECT {self._key()} FROM {self.landing} GROUP BY {self._key()} HAVING count(*) > 1
"""

    def find_repeated(self) -> str:
        """Name the rows of the batch that lose against another row of the same key.

        Only the suspects are sorted. The newest wins, then the later line; a loser that says the
        same as its winner is a duplicate, any other is superseded.
        """
        return f"""
CREATE TABLE {self.repeated} AS
SELECT "_line", is_duplicate
FROM (
    SELECT
        l."_line",
        l."_row_hash" = first_value(l."_row_hash") OVER newest_first AS is_duplicate,
        row_number() OVER newest_first AS place
    FROM {self.landing} AS l
    JOIN {self.suspects} AS k ON {self._key_matches("k", "l")}
    WINDOW newest_first AS (
        PARTITION BY {self._key("l")} ORDER BY {self.version} DESC, l."_line" DESC
    )
) AS ranked
WHERE place > 1
"""

    def count_repeated(self) -> str:
        """Count the losers of `find_repeated` by kind."""
        return f"""
SELECT
    count(*) FILTER (WHERE is_duplicate) AS duplicates,
    count(*) FILTER (WHERE NOT is_duplicate) AS superseded
FROM {self.repeated}
"""

    def _without_repeated(self, has_repeated: bool) -> str:  # noqa: FBT001 - one switch, named by its call
        if not has_repeated:
            return ""
        return f'WHERE NOT EXISTS (SELECT FROM {self.repeated} AS r WHERE r."_line" = l."_line")'

    def _named(self, reference: Column, *, listed: bool) -> str:
        """Return the natural keys that the batch names: given as $1, or looked up in it."""
        named = quote(reference.name)
        if listed:
            return f"unnest($1::{sql_type(reference)}[]) AS m ({named})"
        return f"(SELECT DISTINCT l.{named} FROM {self.landing} AS l) AS m"

    def _unknown(self, reference: Column, *, listed: bool) -> str:
        dimension = Target(dimension_of(reference))
        named, natural = quote(reference.name), quote(dimension.spec.key[0])
        return f"""FROM {self._named(reference, listed=listed)}
WHERE m.{named} IS NOT NULL
    AND NOT EXISTS (SELECT FROM {dimension.table} AS d WHERE d.{natural} = m.{named})"""

    def analyze(self) -> str:
        """Let the planner know the batch: it takes a table it knows nothing of for all alike."""
        return f'ANALYZE {self.landing} ({self._key()}, "_line")'

    def analyze_suspects(self) -> str:
        """Let the planner know how few the suspects are: it would hash the batch, not them."""
        return f"ANALYZE {self.suspects}"

    def analyze_repeated(self) -> str:
        """Let the planner know how few rows have lost."""
        return f"ANALYZE {self.repeated}"

    def analyze_verdicts(self) -> str:
        """Let the planner know how many rows have which verdict."""
        return f"ANALYZE {self.verdicts} ({PLACE}, {VERDICT})"

    def drop_working_tables(self) -> str:
        """Leave nothing of the merge behind but its rows."""
        return f"DROP TABLE IF EXISTS {self.suspects}, {self.repeated}"

    def has_unknown_members(self, reference: Column, *, listed: bool) -> str:
        """Tell whether the batch names a row that its dimension does not have."""
        return f"SELECT EXISTS (\nSELECT {self._unknown(reference, listed=listed)}\n)"

    def infer_members(self, reference: Column, *, listed: bool) -> str:
        """Give each row that is named before it arrived a member of its dimension to point to."""
        dimension = Target(dimension_of(reference))
        versioned = ", valid_from" if dimension.keeps_versions else ""
        since = ", '-infinity'" if dimension.keeps_versions else ""
        return f"""
INSERT INTO {dimension.table}
    ({quote(dimension.spec.key[0])}, "_is_inferred", "_version", "_batch_id", "_line", "_row_hash"
    {versioned})
SELECT
    m.{quote(reference.name)}, true, '-infinity', (SELECT "_batch_id" FROM {self.landing} LIMIT 1),
    0, 0{since}
{self._unknown(reference, listed=listed)}
"""

    def _joins(self) -> str:
        lines = []
        for place, reference in enumerate(self.spec.references):
            dimension = Target(dimension_of(reference))
            alias = f"d{place}"
            condition = f"{alias}.{quote(dimension.spec.key[0])} = l.{quote(reference.name)}"
            if dimension.keeps_versions:
                condition += f" AND {self._in_effect(alias)}"
            lines.append(f"LEFT JOIN {dimension.table} AS {alias} ON {condition}")
        return "\n".join(lines)

    def _in_effect(self, alias: str) -> str:
        if self.spec.event_time is None:
            return f"{alias}.is_current"
        event = f"l.{quote(self.spec.event_time)}"
        happened = f"({event} >= {alias}.valid_from AND {event} < {alias}.valid_to)"
        if not self.spec.column(self.spec.event_time).nullable:
            return happened
        return f"({happened} OR ({event} IS NULL AND {alias}.is_current))"

    @property
    def columns(self) -> tuple[str, ...]:
        """The target's columns that a row brings, in the order of `_values`."""
        names = [name for name, _ in self.target.columns]
        return (*names, "_batch_id", "_version", "_line", "_row_hash", "_extra")

    @property
    def _values(self) -> tuple[str, ...]:
        surrogates = {}
        for place, reference in enumerate(self.spec.references):
            surrogate = Target(dimension_of(reference)).surrogate
            surrogates[self.target.column_name(reference)] = f"d{place}.{quote(str(surrogate))}"
        values = (surrogates.get(name, f"l.{quote(name)}") for name, _ in self.target.columns)
        return (
            *values,
            'l."_batch_id"',
            self.version,
            'l."_line"',
            'l."_row_hash"',
            'l."_extra"',
        )

    @property
    def _select_list(self) -> str:
        return ", ".join(self._values)

    def _column_list(self) -> str:
        return ", ".join(quote(name) for name in self.columns)

    def insert_all(self, *, has_repeated: bool) -> str:
        """Insert every winner of the batch into an empty table."""
        since, first = self._first_version()
        return f"""
INSERT INTO {self.target.table} ({self._column_list()}{since})
SELECT {self._select_list}{first}
FROM {self.landing} AS l
{self._joins()}
{self._without_repeated(has_repeated)}
"""

    def _first_version(self) -> tuple[str, str]:
        return (", valid_from", ", '-infinity'") if self.target.keeps_versions else ("", "")

    def _verdict(self) -> str:
        inferred = ' AND NOT t."_is_inferred"' if self.target.surrogate else ""
        amended = ""
        if self.target.keeps_versions:
            amended = (
                f"""\n        WHEN t."_is_inferred" OR {self.version} <= t.valid_from """
                f"""THEN '{AMENDED}'"""
            )
        return f"""CASE
        WHEN t.ctid IS NULL THEN '{NEW}'{self._confirmed(inferred)}
        WHEN t."_row_hash" = l."_row_hash"{inferred} THEN '{UNCHANGED}'
        WHEN (t."_version", t."_line") > ({self.version}, l."_line") THEN '{SUPERSEDED}'{amended}
        ELSE '{CHANGED}'
    END::"char\""""

    def _confirmed(self, inferred: str) -> str:  # noqa: ARG002 - for the stream's merge
        return ""

    def _compared(self, *, has_repeated: bool, sample: str = "") -> str:
        current = " AND t.is_current" if self.target.keeps_versions else ""
        return f"""FROM {self.landing} AS l {sample}
LEFT JOIN {self.target.table} AS t ON {self._key_matches("t", "l")}{current}
{self._without_repeated(has_repeated)}"""

    def count_verdicts(self, *, has_repeated: bool) -> str:
        """Count the batch's rows by verdict, writing nothing.

        One row of plain counts, not GROUP BY: that would be planned for one worker alone.
        """
        return f"""
SELECT {_COUNTS}
FROM (
SELECT {self._verdict()} AS {VERDICT}
{self._compared(has_repeated=has_repeated)}
) AS judged
"""

    def sample_news(self, *, has_repeated: bool) -> str:
        """Count the rows with news among a random $1 percent of the batch's pages."""
        return f"""
SELECT count(*) AS sampled, count(*) FILTER (WHERE {VERDICT} IN ({_NEWS})) AS news
FROM (
SELECT {self._verdict()} AS {VERDICT}
{self._compared(has_repeated=has_repeated, sample="TABLESAMPLE SYSTEM ($1)")}
) AS judged
"""

    def judge(self, *, has_repeated: bool, only_news: bool) -> str:
        """Write down each row as the target takes it, its verdict, and the place it would take.

        Nobody else writes to the target while the dataset's lock is held, so a place stays valid.
        only_news: leave out the rows that change nothing, which were counted before.
        """
        return f"""
{self._into_verdicts()}{self._judged(has_repeated=has_repeated, only_news=only_news)}"""

    def _judged(self, *, has_repeated: bool, only_news: bool) -> str:
        chosen = f"WHERE l.{VERDICT} IN ({_NEWS})" if only_news else ""
        values = ", ".join(
            f"{value} AS {quote(name)}"
            for value, name in zip(self._values, self.columns, strict=True)
        )
        return f"""
SELECT l.{PLACE}, l.{VERDICT}, {values}
FROM (
SELECT l.*, t.ctid AS {PLACE}, {self._verdict()} AS {VERDICT}
{self._compared(has_repeated=has_repeated)}
) AS l
{self._joins()}
{chosen}
"""

    def _into_verdicts(self) -> str:
        return f"CREATE TEMPORARY TABLE {self.verdicts} ON COMMIT DROP AS"

    def overtake(self) -> str:
        """Turn changes into superseded rows where a newer batch, still staged, had the key.

        A newer batch that only confirmed a row left the row's version as it was: for a batch that
        comes late, the warehouse alone does not tell. Run for late batches only.
        """
        newer = f"s.{quote(self.spec.version or '_version')}"
        return f"""
UPDATE {self.verdicts} AS v SET {VERDICT} = '{SUPERSEDED}'
WHERE v.{VERDICT} IN ('{CHANGED}', '{AMENDED}')
    AND EXISTS (
        SELECT FROM {staging_table(self.spec)} AS s
        WHERE {self._key_matches("s", "v")} AND {newer} > v."_version"
    )
"""

    def tally_verdicts(self) -> str:
        """Count the written verdicts."""
        return f"SELECT {_COUNTS} FROM {self.verdicts}"

    def insert_new(self) -> str:
        """Insert the rows whose key is new, in the key's order: its index grows page by page."""
        since, first = self._first_version()
        return f"""
INSERT INTO {self.target.table} ({self._column_list()}{since})
SELECT {self._column_list()}{first}
FROM {self.verdicts} WHERE {VERDICT} = '{NEW}'
ORDER BY {self._key()}
"""

    def update_changed(self) -> str:
        """Replace changed rows where they stand, page by page."""
        verdict = AMENDED if self.target.keeps_versions else CHANGED
        assignments = ", ".join(
            f"{quote(name)} = i.{quote(name)}" for name in self.columns if name not in self.spec.key
        )
        known = ', "_is_inferred" = false' if self.target.surrogate else ""
        return f"""
UPDATE {self.target.table} AS t SET {assignments}{known}
FROM (
SELECT * FROM {self.verdicts} WHERE {VERDICT} = '{verdict}' ORDER BY {PLACE}
) AS i
WHERE t.ctid = i.{PLACE}
"""

    def close_versions(self) -> str:
        """End the current versions that the batch replaces, at the moment the new ones begin."""
        return f"""
UPDATE {self.target.table} AS t SET is_current = false, valid_to = v."_version"
FROM {self.verdicts} AS v
WHERE v.{VERDICT} = '{CHANGED}' AND t.ctid = v.{PLACE}
"""

    def open_versions(self) -> str:
        """Insert the new versions of changed rows."""
        return f"""
INSERT INTO {self.target.table} ({self._column_list()}, valid_from)
SELECT {self._column_list()}, "_version"
FROM {self.verdicts} WHERE {VERDICT} = '{CHANGED}'
ORDER BY {self._key()}
"""

    def dates_outside(self, column: str) -> str:
        """Add the dates to dim_date that it does not hold; facts join it by the date itself."""
        name = quote(column)
        return f"""
SELECT warehouse.add_dates(array_agg(each))
FROM (SELECT DISTINCT l.{name}::date AS each FROM {self.landing} AS l) AS dates
WHERE each IS NOT NULL AND NOT EXISTS (SELECT FROM warehouse.dim_date WHERE date_key = each)
"""


def dimension_of(reference: Column) -> Spec:
    """Return the contract of the dimension that a column names a row of."""
    if reference.references is None:
        raise ValueError(f"column {reference.name} references nothing")
    return reference.references.spec
