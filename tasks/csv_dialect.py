"""Which delimiter a CSV text uses, and what its columns are called."""

from collections.abc import Sequence

from tasks.csv_records import Grammar, Piece

DELIMITERS = (",", ";", "\t", "|")
SAMPLE_RECORDS = 200


def find_delimiter(sample: bytes, known_columns: Sequence[str], *, at_end: bool) -> str | None:
    """Return the delimiter that explains the sample best; None if not one record is complete.

    First counts how many columns of the header are known, then whether the header is split at
    all, then how many of the first records have as many cells as the header; a comma wins ties.
    """
    known = {name.strip().casefold() for name in known_columns}
    scores: list[tuple[int, bool, float, int]] = []
    for delimiter in DELIMITERS:
        grammar = Grammar(delimiter)
        piece = grammar.split(sample, at_end=at_end, most=SAMPLE_RECORDS)
        widths = _read_widths(grammar, piece)
        if not widths:
            scores.append((-1, False, 0.0, 0))
            continue
        header = read_header(grammar, piece)
        if not header:
            # A malformed header is still split by what it contains, or it would pass for one cell.
            records = piece.locate()
            first = piece.data[records.starts[0] : records.ends[0]]
            scores.append((0, delimiter.encode() in first, 0.0, 0))
            continue
        alike = sum(width == widths[0] for width in widths) / len(widths)
        matches = len({name.strip().casefold() for name in header} & known)
        scores.append((matches, widths[0] > 1, alike, widths[0]))
    best = max(scores)
    return None if best[0] < 0 else DELIMITERS[scores.index(best)]


def read_header(grammar: Grammar, piece: Piece) -> list[str]:
    """Return the cells of the first record; none if it is malformed."""
    records = piece.locate()
    if 0 in records.faults:
        return []
    return grammar.read_cells(piece.data[records.starts[0] : records.ends[0]])


def name_columns(cells: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return one distinct name a column, stripped, and a note for each that had to be made up."""
    given = [cell.strip() for cell in cells]
    taken, used = set(given), set[str]()
    names: list[str] = []
    notes: list[str] = []
    for place, name in enumerate(given, 1):
        chosen = name or f"column_{place}"
        number = 2
        while chosen in used or (chosen != name and chosen in taken):
            chosen = f"{name or f'column_{place}'}_{number}"
            number += 1
        if not name:
            notes.append(f"the header gives column {place} no name; it is '{chosen}'")
        elif chosen != name:
            times = given[:place].count(name)
            notes.append(
                f"the header names column '{name}' more than once; number {times} is '{chosen}'"
            )
        names.append(chosen)
        used.add(chosen)
    return tuple(names), notes


def _read_widths(grammar: Grammar, piece: Piece) -> list[int]:
    records = piece.locate()
    return [
        0 if index in records.faults else len(grammar.read_cells(piece.data[start:end]))
        for index, (start, end) in enumerate(zip(records.starts, records.ends, strict=True))
    ]
