"""Names of any kind become sane, distinct identifiers; nothing gets into SQL but quoted."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infra.postgres.identifiers import (
    MAX_BYTES,
    column_names,
    qualify,
    quote,
    slug,
    table_name,
)

LEGAL = re.compile(r"[a-z][a-z0-9_]*")
UGLY = (
    'a"; DROP TABLE x; --',
    "select",
    "SELECT",
    "Größe (cm)",
    "日付",
    "",
    " ",
    "1st",
    "_line",
    "__",
    "a\0b",
    "x" * 200,
    "é" * 200,
    "xmin",
    "ctid",
    "\ud800",
    "👩‍👩‍👧",
)
names = st.one_of(
    st.sampled_from(UGLY),
    st.text(max_size=80),
    st.text(alphabet="aAb_ -1.é", max_size=60),
    st.from_regex(r"[a-z]{1,3}_x[0-9a-f]{10}", fullmatch=True),
)


@pytest.mark.parametrize("name", UGLY)
def test_an_ugly_name_becomes_a_legal_table(name: str) -> None:
    made = table_name(name)
    assert LEGAL.fullmatch(made)
    assert len(made) <= 40
    assert table_name(name) == made


@given(names, names)
def test_different_names_give_different_legal_tables(one: str, other: str) -> None:
    made = table_name(one), table_name(other)
    for each in made:
        assert LEGAL.fullmatch(each)
        assert len(each.encode()) <= MAX_BYTES
    assert (made[0] == made[1]) == (one == other)


@given(names)
def test_no_name_is_the_mark_of_another(name: str) -> None:
    made = table_name(name)
    assert made == name or table_name(made) != made


@given(st.lists(names, max_size=12, unique=True))
@example(["A", "a", "a ", " A", "Á"])
@example(["xmin", "XMIN", "x min"])
@example(["a" * 63, "a" * 64, "a" * 65])
def test_a_header_becomes_distinct_legal_columns(header: list[str]) -> None:
    made = column_names(tuple(header))
    assert len(set(made)) == len(made) == len(header)
    for each in made:
        assert LEGAL.fullmatch(each)
        assert len(each.encode()) <= MAX_BYTES
        assert each not in {"xmin", "xmax", "cmin", "cmax", "ctid", "tableoid"}


def test_a_column_that_takes_the_marked_name_of_another_pushes_it_aside() -> None:
    marked = column_names(("A b", "a B"))[0]
    made = column_names((marked, "A b", "a B"))
    assert made[0] == marked
    assert len(set(made)) == 3


def test_a_sane_name_stays_as_it_is() -> None:
    assert table_name("orders_20240131") == "orders_20240131"
    assert column_names(("order_id", "a2")) == ("order_id", "a2")
    assert column_names(("Order ID", "E-Mail")) == ("order_id", "e_mail")
    assert column_names(("Order ID", "order_id"))[1] == "order_id"


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("Order-ID", "order_id"),
        ("  Größe (cm) ", "groe_cm"),
        ("Café", "cafe"),
        ("1st", "x_1st"),
        ("_line", "line"),
        ("日付", "x"),
        ("", "x"),
        ("select", "select"),
    ],
)
def test_a_slug_holds_letters_digits_and_underscores(name: str, made: str) -> None:
    assert slug(name) == made


def test_quotes_are_doubled() -> None:
    assert quote('a"b') == '"a""b"'
    assert qualify("staging", "x; --") == '"staging"."x; --"'


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_cannot_name_anything_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name anything in PostgreSQL"):
        quote(name)
