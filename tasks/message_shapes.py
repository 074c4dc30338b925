"""Messages of one shape: their cells, read as columns."""

import json
from dataclasses import dataclass
from typing import Any

import polars as pl

from tasks.envelope_json import write_text
from tasks.json_records import name_columns
from tasks.message_patterns import Form, Leaf, NoPatternError, spell, write_patterns


@dataclass(frozen=True, slots=True)
class Cells:
    """What messages of one shape say."""

    times: pl.Series
    """String: the cell of each timestamp."""
    is_quoted: bool
    """Whether the timestamps are JSON strings."""
    payloads: pl.DataFrame
    """String columns, named and filled as `tasks.extract_frame` does it."""
    nul_rows: frozenset[int]
    """The rows in which a cell holds a NUL character."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a message looks like but for its values."""

    source: str
    leaves: tuple[Leaf, ...]
    """The captured values, in the order of the text."""
    parts: tuple[str, ...]
    """Patterns, each for what the one before it left of a message."""

    def match(self, texts: pl.Series) -> tuple[pl.Series, Cells]:
        """Return which of the texts have this shape (a mask), and what those say."""
        found: list[pl.Series] = []
        left, fits = texts, pl.repeat(value=True, n=len(texts), eager=True, dtype=pl.Boolean)
        for part in self.parts:
            groups = left.str.extract_groups(part).struct.unnest().get_columns()
            if len(self.parts) > 1:
                whole, *groups = groups
                fits &= whole.is_not_null()
                left = _cut_off(left, whole)
            found += groups
        time = next(place for place, each in enumerate(self.leaves) if each.is_time)
        fits &= found[time].is_not_null()
        if not fits.all():
            found = [each.filter(fits) for each in found]
        return fits, self._read(found, time)

    def _read(self, found: list[pl.Series], time: int) -> Cells:
        nul_rows: set[int] = set()
        cells = [
            _read_values(values, leaf.form, nul_rows)
            for values, leaf in zip(found, self.leaves, strict=True)
        ]
        # As pandas orders them: the record's own values, then those of its objects.
        places = [place for place in range(len(cells)) if place != time]
        places.sort(key=lambda place: self.leaves[place].is_nested)
        header = name_columns([self.leaves[place].path for place in places])
        return Cells(
            times=cells[time],
            is_quoted=self.leaves[time].form is Form.TEXT_TIME,
            payloads=pl.DataFrame([cells[place] for place in places], schema=header),
            nul_rows=frozenset(nul_rows),
        )


def learn_shape(envelope: dict[str, Any], text: str) -> Shape | None:
    """Return the shape of a whole message; None where no pattern can be made for it.

    envelope: the text as `tasks.envelope_json` has parsed it.
    """
    try:
        parts = spell(envelope)
    except NoPatternError:
        return None
    pieces = (each for part in parts for each in part)
    leaves = tuple(each for each in pieces if isinstance(each, Leaf) and each.is_captured)
    # A frame without a column has no height: there is a cell beside the timestamp.
    if len(leaves) < 2 or not any(each.is_time for each in leaves):  # noqa: PLR2004 - those two
        return None
    for with_blanks in (False, True):
        patterns = write_patterns(parts, with_blanks=with_blanks)
        shape = Shape(envelope["source"], leaves, patterns)
        fits, _ = shape.match(pl.Series([text]))
        if fits.all():
            return shape
    return None  # a key is written with escapes, or a number is NaN


def _cut_off(texts: pl.Series, heads: pl.Series) -> pl.Series:
    """Return what is left of the texts behind their heads; null where there is no head."""
    pairs = pl.DataFrame({"text": texts.cast(pl.Binary), "head": heads.str.len_bytes()})
    left = pairs.select(
        pl.when(pl.col("head").is_not_null()).then(pl.col("text").bin.slice(pl.col("head")))
    )
    return left.to_series().cast(pl.String)


def _read_values(values: pl.Series, form: Form, nul_rows: set[int]) -> pl.Series:
    """Return the cells of captured values; adds the rows of those with a NUL character."""
    if form in {Form.WORD, Form.WORD_TIME}:
        return values
    cells = values.str.strip_chars('"') if form is Form.ANY else values
    rows = values.str.contains("\\", literal=True).arg_true()
    if not rows.is_empty():
        escaped = values.gather(rows).to_list()
        quote = "" if form is Form.ANY else '"'
        known = {text: write_text(json.loads(quote + text + quote)) for text in set(escaped)}
        read = [known[text] for text in escaped]
        cells = cells.scatter(rows, pl.Series(read, dtype=pl.String))
        nul_rows.update(
            row for row, text in zip(rows.to_list(), read, strict=True) if text and "\0" in text
        )
    is_empty = cells == ""
    return cells.set(is_empty, None) if is_empty.any() else cells
