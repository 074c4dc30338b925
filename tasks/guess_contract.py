"""Guesses a contract from rows: what each column holds, which of them is the key.

A guess is a start for a person who knows the data, never a contract by itself: it says what the
sample was, not what is right.
"""

import keyword
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from infra.postgres.identifiers import slug
from schemas.contradictions import MAX_COLUMN_CHARACTERS, SYSTEM_COLUMNS
from schemas.dataset import (
    DEFAULT_DATE_FORMATS,
    DEFAULT_TIMESTAMP_FORMATS,
    Column,
    Dataset,
    History,
    Kind,
    Missing,
    Role,
    Spec,
)
from schemas.spec import key_name
from tasks.cast import FALSE, TRUE, cast
from tasks.clean import Tally, bind, clean

ACCEPTED_SHARE = 0.95
"""A guess that rejects more of its own sample than this leaves is a wrong one, and is loosened."""

_DIRTY_SHARE = 0.02
"""Real exports hold so many cells that are not what their column is."""
_MORE_DATE_FORMATS = ("%m/%d/%Y", "%d-%m-%Y", "%d %b %Y", "%d %B %Y", "%B %d, %Y", "%Y.%m.%d")
_MORE_TIMESTAMP_FORMATS = (
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
)
_MOST_PLACES = 4


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PERSONAL = _words(
    "address addr birth birthday birthdate dob email fax firstname iban ip lastname lat latitude "
    "lng lon longitude mail mobile name passport phone postal postcode ssn street surname tel "
    "telephone username zip zipcode"
)
_IMPERSONAL = _words(
    "brand category channel city class column company country event file host item product "
    "project region shop state store table type"
)
_CODES = _words("fax iban mobile phone postal postcode ssn tel telephone zip zipcode")
"""Digits that are no number: nobody adds them, and a zero in front counts."""
_MONEY = _words(
    "amount balance cost credit debit discount fee net gross paid price revenue salary subtotal "
    "tax total turnover"
)


@dataclass(frozen=True, slots=True)
class Guess:
    """A contract's description that accepts most of the sample, and what was left out of it."""

    spec: Spec
    left_out: tuple[str, ...]
    """The header's names that no contract can have; their cells are kept in `_extra`."""
    accepted: int
    rows: int


def guess_contract(cells: pl.DataFrame, *, name: str, table: str) -> Guess:
    """Return a contract that accepts at least ACCEPTED_SHARE of these rows of text cells.

    It has no columns where none of the names can stand in a contract.
    """
    names = _usable_names(cells.columns)
    columns = [_guess_column(cells[header], named) for header, named in names.items()]
    left_out = tuple(header for header in cells.columns if header not in names)
    while True:
        spec = _assemble(columns, cells, names, name=name, table=table)
        accepted, worst = _judge(cells, spec) if columns else (0, None)
        if worst is None or accepted >= cells.height * ACCEPTED_SHARE:
            return Guess(spec, left_out, accepted, cells.height)
        columns = [_loosen(each) if each.name == worst else each for each in columns]


def _usable_names(header: Sequence[str]) -> dict[str, str]:
    """Return the contract's name for each of the header's that a contract can have."""
    slugs = [slug(name) for name in header]
    names = {}
    for name, plain in zip(header, slugs, strict=True):
        is_clear = slugs.count(plain) == 1 or plain == name
        is_free = not keyword.iskeyword(plain) and not hasattr(Dataset, plain) and plain != "spec"
        if is_clear and is_free and plain not in SYSTEM_COLUMNS:
            names[name] = plain
    return {name: plain for name, plain in names.items() if len(plain) <= MAX_COLUMN_CHARACTERS}


def _guess_column(cells: pl.Series, name: str) -> Column:
    column = Column(
        name=name,
        kind=Kind.TEXT,
        missing=Missing.REJECT,
        checks=(),
        pii=is_personal(name),
        references=None,
        formats=(),
        scale=0,
        description="",
    )
    column = next(
        (each for each in _candidates(column, cells) if _share_wrong(cells, each) <= _DIRTY_SHARE),
        column,
    )
    values, wrong = cast(cells, column)
    is_missing = values.is_null() if wrong is None else values.is_null() & ~wrong
    return replace(column, missing=Missing.NULL) if is_missing.any() else column


def is_personal(name: str) -> bool:
    """Return whether a column of this name is likely to say something about a person."""
    words = set(name.split("_"))
    return bool(words & _PERSONAL) and not words & _IMPERSONAL


def _candidates(column: Column, cells: pl.Series) -> Iterable[Column]:
    """Yield the kinds the column could be of, narrow ones first; none where it is plain text."""
    filled = cells.drop_nulls().str.strip_chars()
    filled = filled.filter(filled != "")
    words = set(column.name.split("_"))
    if filled.is_empty() or words & _CODES:
        return
    lowered = filled.str.to_lowercase()
    digits = int(filled.is_in(["0", "1"]).sum())
    if lowered.is_in([*TRUE, *FALSE]).any() and digits < len(filled) * (1 - _DIRTY_SHARE):
        yield replace(column, kind=Kind.BOOLEAN)
    if not filled.str.contains(r"^0[0-9]").any():
        if not words & _MONEY:
            yield replace(column, kind=Kind.INTEGER)
        places = filled.str.extract(r"\.([0-9]+)$").str.len_chars().max()
        if words & _MONEY and isinstance(places, int | None) and (places or 0) <= _MOST_PLACES:
            yield replace(column, kind=Kind.DECIMAL, scale=max(places or 0, 2))
        yield replace(column, kind=Kind.NUMBER)
    for kind, usual, more in (
        (Kind.DATE, DEFAULT_DATE_FORMATS, _MORE_DATE_FORMATS),
        (Kind.TIMESTAMP, DEFAULT_TIMESTAMP_FORMATS, _MORE_TIMESTAMP_FORMATS),
    ):
        dated = replace(column, kind=kind, formats=usual)
        yield dated
        # In the order of how often they fit: `03/25/2024` tells that `03/04/2024` is in March.
        yield replace(dated, formats=_formats_by_use(filled, dated, (*more, *usual)) or usual)


def _formats_by_use(filled: pl.Series, dated: Column, formats: tuple[str, ...]) -> tuple[str, ...]:
    fitting = [
        (_share_wrong(filled, replace(dated, formats=(form,))), form)
        for form in formats
    ]  # fmt: skip
    return tuple(form for share, form in sorted(fitting, key=lambda pair: pair[0]) if share < 1)


def _share_wrong(cells: pl.Series, column: Column) -> float:
    values, wrong = cast(cells, column)
    if column.kind is Kind.NUMBER:
        wrong = (~values.is_finite().fill_null(value=True)) | (False if wrong is None else wrong)
    if wrong is None:
        return 0.0
    # A column of `n/a` alone is as good as empty: it is of no kind.
    count = int(wrong.sum())
    return count / (count + len(values) - values.null_count()) if count else 0.0


def _assemble(
    columns: Sequence[Column],
    cells: pl.DataFrame,
    names: dict[str, str],
    *,
    name: str,
    table: str,
) -> Spec:
    headers = {plain: header for header, plain in names.items()}
    key = _guess_key(columns, cells, headers)
    others = [each.name for each in columns if _is_id(each.name) and each.name != key]
    role = Role.STAGING if key is None else Role.FACT if others else Role.DIMENSION
    if role is Role.DIMENSION and key is not None:
        # The warehouse gives the row a key of its own, under this name.
        columns = [each for each in columns if each.name != key_name(key, table)]
    moments = [each.name for each in columns if each.kind in {Kind.DATE, Kind.TIMESTAMP}]
    return Spec(
        name=name,
        table=table,
        role=role,
        key=() if key is None else (key,),
        columns=tuple(
            replace(each, missing=Missing.REJECT) if each.name == key else each for each in columns
        ),
        version=None,
        event_time=moments[0] if moments and role is Role.FACT else None,
        history=History.OVERWRITE,
        freshness=None,
        description="",
    )


def _guess_key(
    columns: Sequence[Column], cells: pl.DataFrame, headers: dict[str, str]
) -> str | None:
    """Return the column whose values are there and distinct, as far as exports ever are."""
    found: list[tuple[tuple[bool, bool, bool, int], str]] = []
    for place, each in enumerate(columns):
        if each.kind not in {Kind.INTEGER, Kind.TEXT} or not cells.height:
            continue
        values = cast(cells[headers[each.name]], each)[0].drop_nulls()
        is_text = each.kind is Kind.TEXT
        if values.n_unique() >= cells.height * (1 - 2 * _DIRTY_SHARE):
            found.append(((not _is_id(each.name), each.pii, is_text, place), each.name))
    # What is distinct by chance is no key: a text must at least be called one.
    usable = [name for (unnamed, _, is_text, _), name in sorted(found) if not (unnamed and is_text)]
    return usable[0] if usable else None


def _is_id(name: str) -> bool:
    return re.fullmatch(r"(.*_)?(id|key|code|number|no|sku|uuid|isbn|ean)", name) is not None


def _judge(cells: pl.DataFrame, spec: Spec) -> tuple[int, str | None]:
    """Return how many rows the guess accepts, and the column that most others break at."""
    tally = Tally()
    accepted, _ = clean(
        cells,
        pl.int_range(cells.height, dtype=pl.Int64, eager=True),
        lambda rows: [""] * len(rows),
        spec=spec,
        binding=bind(cells.columns, spec, "The sample"),
        tally=tally,
    )
    known = [(count, column) for (column, _), count in tally.rules.items() if column in spec.names]
    return accepted.height, max(known, key=lambda pair: pair[0])[1] if known else None


def _loosen(column: Column) -> Column:
    if column.kind is Kind.DECIMAL:
        return replace(column, kind=Kind.NUMBER, scale=0)
    return replace(column, kind=Kind.TEXT, formats=(), missing=Missing.NULL)
