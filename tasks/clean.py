"""Turns a block of text cells into typed, checked rows, and says of every other why it is not.

Pure: no database, no file. The bulk path, the API's answers and a person's DataFrame all pass
here, so that one contract gives one verdict.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl
import polars_hash as plh

from infra.cell_encryption import KeyRing
from infra.hiding import hide
from infra.postgres.identifiers import column_names, slug
from infra.postgres.layout import index_name
from schemas.checks import FINITE
from schemas.dataset import DECIMAL_PRECISION, Column, Kind, Missing, Spec
from schemas.errors import RefusedError
from tasks.cast import Cast, cast_all, is_ambiguous
from tasks.personal_cells import index_cells

LINE = "_line"
ROW_HASH = "_row_hash"
EXTRA = "_extra"

_SHOWN_CHARACTERS = 60
_JUDGED_CELLS = 20
"""Below this many filled cells a column's type is not called changed; its rows are quarantined."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Which header names which column of the contract, and what the contract does not know."""

    columns: dict[str, str]
    """Contract's name to the header's."""
    absent: tuple[str, ...]
    """Columns that may be missing and are."""
    unknown: tuple[str, ...]
    """The header's names that the contract does not have: they are kept in `_extra`."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was not loaded: where it stood, the rules it broke, what it said."""

    line: int
    rule: str
    """The first rule broken: `type`, `missing`, `column_count`, or a check's name."""
    column: str | None
    reason: str
    """One sentence for each rule broken, joined with semicolons."""
    raw: str


@dataclass(slots=True)
class Tally:
    """What was seen of a source so far, counted block by block."""

    filled: Counter[str] = field(default_factory=Counter)
    """Cells filled in with the contract's default, by column."""
    present: Counter[str] = field(default_factory=Counter)
    """Cells that held something, by column."""
    mistyped: Counter[str] = field(default_factory=Counter)
    """Of those, the ones that are not of the column's type."""
    example: dict[str, str] = field(default_factory=dict)
    rules: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    """Rows that broke a rule, by column and rule."""
    checked: int = 0
    """Rows that were looked at."""

    def add(self, other: "Tally") -> None:
        """Count what another has seen as well."""
        # Not `+=`, which forgets a column whose cells were all empty.
        self.filled.update(other.filled)
        self.present.update(other.present)
        self.mistyped.update(other.mistyped)
        self.rules.update(other.rules)
        self.checked += other.checked
        self.example = {**other.example, **self.example}


def bind(header: Sequence[str], spec: Spec, source: str) -> Binding:
    """Match a header with the contract, by name without regard to case, blanks and hyphens.

    A name that is the contract's own letter by letter goes before others that only look like it.
    Raises RefusedError when a column that must be there is not, or could be either of two; the
    sentence names both sides.
    """
    by_slug: dict[str, list[str]] = {}
    for name in header:
        by_slug.setdefault(slug(name), []).append(name)
    columns = {
        name: _only(by_slug[name], name, spec, source) for name in spec.names if name in by_slug
    }
    known = set(columns.values())
    unknown = tuple(name for name in header if name not in known)
    absent = [each for each in spec.columns if each.name not in columns]
    if required := [each.name for each in absent if each.missing is Missing.REJECT]:
        if header and not columns:
            # What stands there may be somebody's data: it is not quoted.
            raise RefusedError(
                f"{source} has none of the columns that the contract {spec.name} requires "
                f"({_listed(required)}): if its first line is a row, add the line that names the "
                "columns; else rename the columns or change the contract."
            )
        has = f"it has {_listed(unknown)} instead" if unknown else f"it has {_listed(header)}"
        raise RefusedError(
            f"{source} lacks {_listed(required)}, which the contract {spec.name} requires; {has}: "
            "rename the column in the file or change the contract."
        )
    return Binding(columns, tuple(each.name for each in absent), unknown)


def _only(alike: list[str], name: str, spec: Spec, source: str) -> str:
    if len(alike) > 1 and name not in alike:
        raise RefusedError(
            f"{source} has {_listed(alike)}, and each could be '{name}' of the contract "
            f"{spec.name}: rename one of them in the file."
        )
    return name if name in alike else alike[0]


def clean(
    cells: pl.DataFrame,
    lines: pl.Series,
    raw_text: Callable[[Sequence[int]], list[str]],
    *,
    spec: Spec,
    binding: Binding,
    tally: Tally,
    keys: KeyRing | None = None,
    sparse: bool = False,
) -> tuple[pl.DataFrame, list[Reject]]:
    """Return the rows that keep the contract, typed, and a reject for every other row.

    cells: String columns, named as in the header. lines: Int64, of the same height: where each
    row stood. The accepted frame has the contract's columns in order, then `_line` (Int64),
    `_row_hash` (Int64: xxh3 over the values, the same in every process and version) and
    `_extra` (String: a JSON object, or null).
    keys: with them the frame has the index of each personal column too, and the hash is taken over
    it in place of the values: nobody without the index's key can try whether a guess is right.
    Rows that were cleaned without keys are for looking at alone.
    sparse: an empty cell of a column that the contract does not know says nothing, as if the row
    had no such column.
    """
    flaws = _Flaws(cells.height, is_personal=any(each.pii for each in spec.columns))
    present = [
        (each, binding.columns[each.name]) for each in spec.columns if each.name in binding.columns
    ]
    casts = dict(zip((column.name for column, _ in present), cast_all(cells, present), strict=True))
    frame = pl.DataFrame(
        [
            _settle(
                casts.get(each.name) or _nothing(cells, each),
                cells[binding.columns[each.name]] if each.name in casts else None,
                each,
                flaws,
                tally,
            )
            for each in spec.columns
        ]
    )
    _check(frame, spec, flaws)
    extra = _extra(cells, binding.unknown, flaws, sparse=sparse)
    hashed = spec.names
    if keys is not None:
        frame = frame.with_columns(index_cells(frame, spec, keys))
        hashed = tuple(index_name(each.name) if each.pii else each.name for each in spec.columns)
    frame = frame.with_columns(
        lines.alias(LINE),
        _hash(hashed, extra, sparse=sparse).alias(ROW_HASH),
        (extra if extra is not None else pl.lit(None, dtype=pl.String)).alias(EXTRA),
    )
    tally.checked += cells.height
    tally.rules.update(flaws.counts())
    if not flaws.found:
        return frame, []
    return frame.filter(flaws.kept()), flaws.rejects(lines, raw_text)


def refuse_changed_types(tally: Tally, spec: Spec, source: str) -> None:
    """Raise RefusedError when most cells of a column are of another type than the contract says.

    That is no dirty row but another file: quarantining it row by row would hide it.
    """
    for name, wrong in tally.mistyped.items():
        present = tally.present[name]
        if present >= _JUDGED_CELLS and wrong * 2 > present:
            column = spec.column(name)
            raise RefusedError(
                f"{source} does not fit the contract {spec.name}: column '{name}' is "
                f"{column.kind} there, but {wrong} of {present} cells in the file are not, such as "
                f"{tally.example[name]}: mend the file or change the contract."
            )


def summarise(tally: Tally) -> list[tuple[str | None, str, int, int, str]]:
    """Return column, rule, rows checked, rows failed and statistics (JSON) of what was seen."""
    results = [
        (column, rule, tally.checked, failed, "{}")
        for (column, rule), failed in sorted(tally.rules.items(), key=str)
    ]
    for column, present in tally.present.items():
        facts = {"filled": tally.filled[column], "mistyped": tally.mistyped[column]}
        missing = tally.checked - present
        results.append((column, "completeness", tally.checked, missing, json.dumps(facts)))
    return results


class _Flaws:
    """Masks of broken rows, each with the rule and a way to say what is wrong with one row."""

    def __init__(self, height: int, *, is_personal: bool) -> None:
        self.height = height
        self._is_personal = is_personal
        self.found: list[tuple[str, str, pl.Series, Callable[[int], str]]] = []

    def add(self, rule: str, column: str, mask: pl.Series, sentence: Callable[[int], str]) -> None:
        self.found.append((rule, column, mask, sentence))

    def show(self, column: Column, given: str) -> str:
        """Return what may be said of a cell; its row has it whole, and is kept as such rows are.

        In a row that lacks a cell or has one too many, a personal one may stand under any name:
        where some are personal, only the form of the others is said.
        """
        if column.pii:
            return "a value that is personal"
        return f"'{_shown(hide(given) if self._is_personal else given)}'"

    def name(self, column: Column, given: str) -> str:
        """Name a cell, with what may be said of it."""
        return column.name if column.pii else f"{column.name} {self.show(column, given)}"

    def counts(self) -> Counter[tuple[str | None, str]]:
        return Counter({(column, rule): int(mask.sum()) for rule, column, mask, _ in self.found})

    def kept(self) -> pl.Series:
        kept = ~self.found[0][2]
        for _, _, mask, _ in self.found[1:]:
            kept &= ~mask
        return kept

    def rejects(
        self, lines: pl.Series, raw_text: Callable[[Sequence[int]], list[str]]
    ) -> list[Reject]:
        rows: dict[int, list[tuple[str, str, str]]] = {}
        for rule, column, mask, sentence in self.found:
            for row in mask.arg_true().to_list():
                rows.setdefault(row, []).append((rule, column, sentence(row)))
        ordered = sorted(rows)
        numbers = lines.gather(ordered).to_list()
        texts = raw_text(ordered)
        return [
            Reject(
                line=line,
                rule=rows[row][0][0],
                column=rows[row][0][1],
                reason="; ".join(sentence for _, _, sentence in rows[row]),
                raw=raw,
            )
            for row, line, raw in zip(ordered, numbers, texts, strict=True)
        ]


def _nothing(cells: pl.DataFrame, column: Column) -> Cast:
    return Cast(pl.repeat(None, cells.height, dtype=column.dtype, eager=True), None)


def _settle(
    cast: Cast, given: pl.Series | None, column: Column, flaws: _Flaws, tally: Tally
) -> pl.Series:
    """Return the column's values as the contract wants them, its broken cells noted."""
    values, wrong = cast.values.alias(column.name), cast.wrong
    absent = values.null_count()
    if wrong is not None and given is not None:
        flaws.add("type", column.name, wrong, lambda row: _mistyped(flaws, column, given[row]))
        mistyped = int(wrong.sum())
        absent -= mistyped
        tally.mistyped[column.name] += mistyped
        tally.example.setdefault(column.name, flaws.show(column, given[wrong.arg_true()[0]]))
    tally.present[column.name] += len(values) - absent
    if not absent or column.missing is Missing.NULL:
        return values
    missing = values.is_null() if wrong is None else values.is_null() & ~wrong
    if column.missing is Missing.REJECT:
        flaws.add("missing", column.name, missing, lambda _: f"{column.name} is missing")
        return values
    tally.filled[column.name] += absent
    return values.zip_with(~missing, pl.Series([column.missing], dtype=column.dtype))


def _check(frame: pl.DataFrame, spec: Spec, flaws: _Flaws) -> None:
    """Take each of Pandera's checks as a mask; a null is not the check's to judge."""
    lazy = frame.lazy()
    asked = [(column, check) for column in spec.columns for check in column.checks]
    masks = [check(lazy, column.name).check_output for column, check in asked]
    for (column, check), output in zip(asked, pl.collect_all(masks), strict=True):
        passed = output.to_series()
        if passed.all():  # nulls aside
            continue
        values = frame[column.name]
        broken = ~passed.fill_null(value=True) & values.is_not_null()
        if broken.any():
            is_finite = check.name == FINITE
            said = "is not a finite number" if is_finite else f"breaks {check.error}"
            sentence = _sentence(flaws, column, values, said)
            flaws.add(str(check.name), column.name, broken, sentence)


def _sentence(flaws: _Flaws, column: Column, values: pl.Series, said: str) -> Callable[[int], str]:
    return lambda row: f"{flaws.name(column, str(values[row]))} {said}"


def _mistyped(flaws: _Flaws, column: Column, given: str) -> str:
    shown = flaws.name(column, given)
    if is_ambiguous(given, column):
        return f"{shown} is ambiguous: its separator can be of thousands or of decimals"
    return f"{shown} is not {_wanted(column)}"


def _wanted(column: Column) -> str:
    match column.kind:
        case Kind.INTEGER:
            return "an integer of 64 bits"
        case Kind.DECIMAL:
            before = DECIMAL_PRECISION - column.scale
            return f"a decimal of at most {before} digits before its point and {column.scale} after"
        case Kind.DATE | Kind.TIMESTAMP:
            return f"a {column.kind} in any of the contract's formats"
        case Kind.TEXT:
            return "a text without NUL characters"
        case _:
            return f"a {column.kind}"


def _hash(names: Sequence[str], extra: pl.Series | None, *, sparse: bool) -> pl.Expr:
    # The encoding's version is named: a hash that changed would make every row look changed.
    said = plh.hash_rows(*names, *([extra] if extra is not None else []), version=1)
    hashed = said.nchash.xxh3_64().reinterpret(signed=True)
    if extra is None or not sparse:
        return hashed
    return pl.when(extra.is_null()).then(_hash(names, None, sparse=True)).otherwise(hashed)


def _extra(
    cells: pl.DataFrame, unknown: tuple[str, ...], flaws: _Flaws, *, sparse: bool
) -> pl.Series | None:
    """Return what each row has beyond the contract, as a JSON object; None where there is none.

    sparse: empty cells are left out of it, and it is null where nothing is left.
    """
    if not unknown:
        return None
    for name in unknown:
        # jsonb holds every character but this one, as text does.
        nul = cells[name].str.contains("\0", literal=True).fill_null(value=False)
        if nul.any():
            shown = _shown(name)
            flaws.add("type", shown, nul, lambda _, shown=shown: f"'{shown}' holds a NUL character")  # type: ignore[misc] # mypy sees no type in the default
    # In the order of their names: a file with its columns in another order says the same.
    named = sorted(zip(column_names(unknown), unknown, strict=True))
    if not sparse:
        told = pl.struct(cells[given].alias(name) for name, given in named).struct.json_encode()
        return cells.select(told.alias(EXTRA)).to_series()
    members = [_member(name, cells[given]) for name, given in named]
    listed = cells.select(pl.concat_str(members, separator=",", ignore_nulls=True)).to_series()
    objects = pl.concat_str(pl.lit("{"), listed, pl.lit("}"))
    said = pl.when(listed != "").then(objects)
    return cells.select(said.alias(EXTRA)).to_series()


def _member(name: str, cells: pl.Series) -> pl.Expr:
    """Return a column as members of JSON objects, `"name":"cell"`; null where a cell is empty."""
    told = pl.struct(cells.alias(name)).struct.json_encode().str.strip_prefix("{")
    return pl.when(cells.is_not_null()).then(told.str.strip_suffix("}"))


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{_shown(name)}'" for name in names)
