"""Clean rows in, a dirty file out, with a list of every flaw and where it stands."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.sample.draw import Draw
from infra.sample.flaws import Flaw, Ledger, Outcome, Planted, Recipe

DUPLICATES = (Flaw.EXACT_DUPLICATE, Flaw.NEAR_DUPLICATE)


@dataclass(slots=True)
class Row:
    """One record on its way into a file."""

    cells: list[str]
    key: str
    flaw: Flaw | None = None
    column: str = ""
    clean: str = ""
    repeats: "Row | None" = None


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A file's bytes and the facts about it."""

    name: str
    content: bytes
    records: int
    planted: tuple[Planted, ...]
    loaded_keys: frozenset[str]

    @property
    def counts(self) -> Mapping[Flaw, int]:
        """How often each flaw was planted."""
        return Counter(each.flaw for each in self.planted)

    @property
    def ledger(self) -> Ledger:
        """What a first load of this file must count."""
        return Ledger.count(self.records - len(self.planted), self.counts)

    @property
    def quarantined(self) -> tuple[Planted, ...]:
        """The rows that must be in quarantine after a load, in the file's order."""
        return tuple(each for each in self.planted if each.flaw.outcome is Outcome.QUARANTINED)

    def unknown_members(self, column: str) -> frozenset[str]:
        """Return the keys in this column for which a dimension row must be inferred."""
        return frozenset(
            each.clean
            for each in self.planted
            if each.flaw is Flaw.UNKNOWN_MEMBER and each.column == column
        )

    def fills(self, column: str) -> int:
        """Return how many empty cells of this column take the contract's default."""
        return sum(
            each.flaw is Flaw.EMPTY_DEFAULTED and each.column == column for each in self.planted
        )


def spoil(cells: list[str], header: Sequence[str], recipe: Recipe, draw: Draw) -> tuple[str, str]:
    """Change the cells in place; return the spoilt column and what a reader must make of it."""
    match recipe.flaw:
        case Flaw.FIELD_TOO_MANY:
            cells.insert(len(cells) - draw.below(2), "checked by till 4")
            return "", ""
        case Flaw.FIELD_TOO_FEW:
            del cells[-1 - draw.below(3) :]
            return "", ""
    if recipe.change is None:
        return "", ""
    column = draw.pick(recipe.columns)
    place = header.index(column)
    written = recipe.change(cells[place], draw)
    cells[place] = written.text
    return column, written.clean


def format_record(cells: Sequence[str]) -> str:
    """Return the record as CSV writes it, quoted where it must be, without the line's end."""
    return ",".join(
        '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\n\r') else cell
        for cell in cells
    )


def plant(
    name: str,
    header: Sequence[str],
    clean_rows: Sequence[list[str]],
    recipes: Sequence[Recipe],
    draw: Draw,
) -> SampleFile:
    """Return the file of these rows with every recipe's flaws in it.

    The first column is the key. Each flaw falls on a row of its own; a duplicate repeats a row
    without a flaw, at a random distance after it, as one more record.
    """
    rows = [Row(cells=list(cells), key=cells[0]) for cells in clean_rows]
    free = draw.distinct(len(rows), len(rows))
    placed: list[tuple[int, int, Row]] = [(place, 0, row) for place, row in enumerate(rows)]
    for recipe in recipes:
        for _ in range(recipe.count):
            place = _take(free, rows, recipe.flaw)
            row = rows[place]
            if recipe.flaw in DUPLICATES:
                row = Row(cells=list(row.cells), key=row.key, repeats=row)
                later = place + draw.below(draw.pick((2, 100, len(rows) - place)))
                placed.append((min(later, len(rows) - 1), len(placed), row))
            row.flaw = recipe.flaw
            row.column, row.clean = spoil(row.cells, header, recipe, draw)
            if recipe.flaw is Flaw.MISSING_KEY:
                row.key = ""
    placed.sort(key=lambda each: each[:2])
    return _write(name, header, [row for _, _, row in placed])


def _take(free: list[int], rows: Sequence[Row], flaw: Flaw) -> int:
    """Take the last free place whose row can carry the flaw."""
    for back in range(len(free) - 1, -1, -1):
        if flaw is not Flaw.WINDOWS_BYTES or _fits_windows(rows[free[back]]):
            return free.pop(back)
    message = f"There are too few rows to plant '{flaw}'; generate more rows."
    raise ValueError(message)


def _fits_windows(row: Row) -> bool:
    return all(cell.encode("cp1252", "ignore").decode("cp1252") == cell for cell in row.cells[2:])


def _write(name: str, header: Sequence[str], rows: Sequence[Row]) -> SampleFile:
    parts = [format_record(header).encode() + b"\n"]
    planted: list[Planted] = []
    line = 2
    lines: dict[int, int] = {}
    for record, row in enumerate(rows, start=1):
        text = format_record(row.cells)
        encoding = "cp1252" if row.flaw is Flaw.WINDOWS_BYTES else "utf-8"
        parts.append(text.encode(encoding) + b"\n")
        lines[id(row)] = line
        if row.flaw is not None:
            first_line = lines[id(row.repeats)] if row.repeats is not None else None
            planted.append(
                Planted(
                    row.flaw, record, line, row.column, row.key, row.clean, first_line=first_line
                )
            )
        line += 1 + text.count("\n")
    loaded = frozenset(
        row.key
        for row in rows
        if row.flaw is None or row.flaw.outcome in (Outcome.LOADED, Outcome.SUPERSEDES)
    )
    return SampleFile(name, b"".join(parts), len(rows), tuple(planted), loaded)
