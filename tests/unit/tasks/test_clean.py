"""Which rows a contract accepts, what is said about the others, and what is counted."""

import datetime as dt
import json
import re
from collections.abc import Sequence
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.cell_encryption import KeyRing, Place
from schemas.dataset import Dataset, Missing, Role, column
from schemas.datasets import Customers, Sales
from schemas.errors import RefusedError
from tasks.clean import EXTRA, LINE, ROW_HASH, Reject, Tally, bind, clean, refuse_changed_types


class Orders(Dataset, table="orders", role=Role.FACT, key=("order_id",)):
    """One row per order."""

    order_id: int = column(ge=1)
    placed_on: dt.date = column(ge=dt.date(2000, 1, 1))
    price: Decimal = column(missing=Decimal("9.99"), ge=0)
    share: float = column(missing=0, le=1)
    channel: str = column(nullable=True, isin=["web", "shop"], str_length=(3, 4))
    mail: str = column(nullable=True, str_matches=r"\S+@\S+$")
    paid: bool = column(missing=False)
    seen_at: dt.datetime = column(nullable=True)


HEADER = Orders.spec.names
GOOD = ("1", "2024-02-29", "1.50", "0.5", "web", "a@b", "yes", "2024-02-29T10:00:00+01:00")


class People(Dataset, table="people", role=Role.DIMENSION, key=("id",)):
    """One row per person."""

    id: int = column(ge=1)
    mail: str = column(pii=True, nullable=True, str_matches=r"\S+@\S+$")
    born_on: dt.date = column(pii=True, nullable=True)
    city: str = column(nullable=True, isin=["Ulm", "Bonn"])


PEOPLE = People.spec.names
KEYS = KeyRing([bytes([1]) * 32], [bytes([2]) * 32])


def run(
    rows: Sequence[Sequence[str | None]],
    header: Sequence[str] = HEADER,
    *,
    dataset: type[Dataset] = Orders,
    tally: Tally | None = None,
    first_line: int = 2,
    keys: KeyRing | None = None,
) -> tuple[pl.DataFrame, list[Reject]]:
    cells = pl.DataFrame(
        list(zip(*rows, strict=True)) or [[] for _ in header],
        schema=dict.fromkeys(header, pl.String),
    )
    lines = pl.int_range(first_line, first_line + len(rows), dtype=pl.Int64, eager=True)
    return clean(
        cells,
        lines,
        lambda wanted: ["|".join(cell or "" for cell in rows[row]) for row in wanted],
        spec=dataset.spec,
        binding=bind(tuple(header), dataset.spec, "orders.csv"),
        tally=tally if tally is not None else Tally(),
        keys=keys,
    )


def changed(**cells: str | None) -> list[str | None]:
    row: list[str | None] = list(GOOD)
    for name, text in cells.items():
        row[HEADER.index(name)] = text
    return row


def reasons(row: Sequence[str | None]) -> str:
    accepted, rejects = run([row])
    assert accepted.height == 0
    return rejects[0].reason


def test_an_accepted_row_is_typed_and_carries_its_line_and_hash() -> None:
    accepted, rejects = run([GOOD])
    assert rejects == []
    assert accepted.columns == [*HEADER, LINE, ROW_HASH, EXTRA]
    expected = {each.name: each.dtype for each in Orders.spec.columns}
    expected |= {LINE: pl.Int64(), ROW_HASH: pl.Int64(), EXTRA: pl.String()}
    assert accepted.schema == expected
    row = accepted.row(0, named=True)
    assert row["price"] == Decimal("1.50")
    assert row["seen_at"] == dt.datetime(2024, 2, 29, 9, tzinfo=dt.UTC)
    assert (row[LINE], row[EXTRA]) == (2, None)


def test_a_block_without_rows_gives_the_same_columns() -> None:
    accepted, rejects = run([])
    assert rejects == []
    assert accepted.schema == run([GOOD])[0].schema


@pytest.mark.parametrize(
    ("cells", "rule", "reason"),
    [
        ({"order_id": "x"}, "type", "order_id 'x' is not an integer of 64 bits"),
        ({"order_id": None}, "missing", "order_id is missing"),
        ({"order_id": "N/A"}, "missing", "order_id is missing"),
        (
            {"order_id": "0"},
            "greater_than_or_equal_to",
            "order_id '0' breaks greater_than_or_equal_to(1)",
        ),
        ({"placed_on": "2023-02-29"}, "type", "placed_on '2023-02-29' is not a date in"),
        ({"price": "1.005"}, "type", "price '1.005' is not a decimal of at most 16 digits before"),
        ({"share": "1,234"}, "type", "share '1,234' is ambiguous: its separator can be of"),
        ({"share": "inf"}, "less_than_or_equal_to", "share 'inf' breaks less_than_or_equal_to(1)"),
        ({"share": "-inf"}, "finite", "share '-inf' is not a finite number"),
        ({"channel": "post"}, "isin", "channel 'post' breaks isin(['web', 'shop'])"),
        ({"paid": "perhaps"}, "type", "paid 'perhaps' is not a boolean"),
        ({"channel": "we\0b"}, "type", "channel 'we\0b' is not a text without NUL characters"),
    ],
)
def test_a_row_that_breaks_a_rule_says_which(
    cells: dict[str, str | None], rule: str, reason: str
) -> None:
    accepted, rejects = run([changed(order_id="7"), changed(**cells), changed(order_id="8")])
    assert accepted["order_id"].to_list() == [7, 8]
    assert len(rejects) == 1
    assert (rejects[0].line, rejects[0].rule, rejects[0].column) == (3, rule, next(iter(cells)))
    assert rejects[0].reason.startswith(reason)
    assert rejects[0].raw == "|".join(each or "" for each in changed(**cells))


def test_every_rule_that_a_row_breaks_is_in_its_reason() -> None:
    said = reasons(
        changed(order_id="-1", placed_on="never", price="-2", channel="x", share="7", paid="?")
    )
    assert said.split("; ") == [
        "placed_on 'never' is not a date in any of the contract's formats",
        "paid '?' is not a boolean",
        "order_id '-1' breaks greater_than_or_equal_to(1)",
        "price '-2.00' breaks greater_than_or_equal_to(0)",
        "share '7.0' breaks less_than_or_equal_to(1)",
        "channel 'x' breaks isin(['web', 'shop'])",
        "channel 'x' breaks str_length(3, 4)",
    ]


def test_a_long_cell_is_cut_in_the_reason_only() -> None:
    _, rejects = run([changed(order_id="9" * 500)])
    assert "'" + "9" * 60 + "…'" in rejects[0].reason
    assert "9" * 500 in rejects[0].raw


def test_personal_values_stay_out_of_reasons_and_refusals() -> None:
    _, rejects = run(
        [
            ["1", "secret-person", None, None],
            ["2", "sec\0ret", None, None],
            ["3", "a@b", None, "secret@person.org"],
            ["4", "a@b", None, "Zürich, 1990"],
        ],
        PEOPLE,
        dataset=People,
    )
    assert [each.reason for each in rejects] == [
        r"mail breaks str_matches('\S+@\S+$')",
        "mail is not a text without NUL characters",
        # A row that lacks a cell has them under other names: only their form is said.
        "city '••••••@••••••.•••' breaks isin(['Ulm', 'Bonn'])",
        "city '••••••, ••••' breaks isin(['Ulm', 'Bonn'])",
    ]
    tally = Tally()
    run([["1", None, "secret", None]] * 30, PEOPLE, dataset=People, tally=tally)
    with pytest.raises(RefusedError) as caught:
        refuse_changed_types(tally, People.spec, "people.csv")
    assert "secret" not in str(caught.value)
    assert "such as a value that is personal: mend the file" in str(caught.value)


def test_missing_cells_are_filled_in_and_each_fill_is_counted() -> None:
    tally = Tally()
    accepted, rejects = run(
        [
            changed(price=None, share="", paid="null", channel=None, seen_at=None, mail=" "),
            changed(price="n/a"),
            changed(order_id=None, price=None),
        ],
        tally=tally,
    )
    assert len(rejects) == 1
    row = accepted.row(0, named=True)
    assert (row["price"], row["share"], row["paid"]) == (Decimal("9.99"), 0.0, False)
    assert (row["channel"], row["seen_at"], row["mail"]) == (None, None, None)
    assert accepted["price"].to_list() == [Decimal("9.99")] * 2
    assert tally.filled == {"price": 3, "share": 1, "paid": 1}
    assert tally.present["price"] == 0
    assert tally.present["order_id"] == 2
    assert tally.checked == 3


def test_a_cell_of_the_wrong_type_is_not_filled_in() -> None:
    tally = Tally()
    _, rejects = run([changed(price="dear")], tally=tally)
    assert [each.rule for each in rejects] == ["type"]
    assert tally.filled.total() == 0
    assert (tally.mistyped["price"], tally.example["price"]) == (1, "'dear'")


def test_rules_are_counted_by_column_over_blocks() -> None:
    tally = Tally()
    run([changed(order_id="0", share="5"), changed(order_id="0")], tally=tally)
    run([changed(order_id="0")], tally=tally)
    assert tally.rules == {
        ("order_id", "greater_than_or_equal_to"): 3,
        ("share", "less_than_or_equal_to"): 1,
    }


@pytest.mark.parametrize("filled", [19, 20])
def test_a_type_has_changed_when_most_of_twenty_cells_are_of_another(filled: int) -> None:
    tally = Tally()
    wrong = filled // 2 + 1
    rows = [changed(price="x")] * wrong + [changed(price="1")] * (filled - wrong)
    run([*rows, changed(price=None)], tally=tally)
    if filled < 20:
        refuse_changed_types(tally, Orders.spec, "orders.csv")
        return
    with pytest.raises(RefusedError) as caught:
        refuse_changed_types(tally, Orders.spec, "orders.csv")
    assert str(caught.value) == (
        "orders.csv does not fit the contract Orders: column 'price' is decimal there, but 11 of "
        "20 cells in the file are not, such as 'x': mend the file or change the contract."
    )


def test_half_of_the_cells_wrong_is_dirt_and_no_change_of_type() -> None:
    tally = Tally()
    run([changed(price="x")] * 10 + [changed(price="1")] * 10, tally=tally)
    refuse_changed_types(tally, Orders.spec, "orders.csv")


def test_a_header_is_matched_whatever_its_spelling_and_order() -> None:
    header = ["Seen At", "ORDER-ID", " placed on ", "Price", "share", "Channel", "mail", "Paid"]
    row = [GOOD[HEADER.index(name)] for name in ("seen_at", *HEADER[:-1])]
    accepted, rejects = run([row], header)
    assert rejects == []
    assert accepted.equals(run([GOOD])[0])


def test_a_name_that_is_the_contracts_own_goes_before_one_that_looks_like_it() -> None:
    accepted, _ = run([["77", *GOOD]], ["Order ID", *HEADER])
    assert accepted["order_id"].to_list() == [1]
    assert json.loads(accepted[EXTRA][0]) == {"order_id": "77"}


def test_two_names_that_look_alike_are_refused() -> None:
    with pytest.raises(RefusedError) as caught:
        bind(("Order ID", "order-id", *HEADER[1:]), Orders.spec, "orders.csv")
    assert str(caught.value) == (
        "orders.csv has 'Order ID', 'order-id', and each could be 'order_id' of the contract "
        "Orders: rename one of them in the file."
    )


def test_a_column_that_may_be_missing_is_missing_or_filled_in() -> None:
    tally = Tally()
    header = ["order_id", "placed_on"]
    binding = bind(header, Orders.spec, "orders.csv")
    assert binding.absent == ("price", "share", "channel", "mail", "paid", "seen_at")
    accepted, rejects = run([GOOD[:2]] * 2, header, tally=tally)
    assert rejects == []
    row = accepted.row(0, named=True)
    assert (row["price"], row["channel"]) == (Decimal("9.99"), None)
    assert tally.filled == {"price": 2, "share": 2, "paid": 2}


@pytest.mark.parametrize(
    ("header", "has"),
    [
        (("order_no", *HEADER[1:]), "it has 'order_no' instead"),
        (HEADER[1:3], "it has 'placed_on', 'price'"),
    ],
)
def test_a_required_column_that_is_missing_refuses_the_source_naming_both_sides(
    header: tuple[str, ...], has: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        bind(header, Orders.spec, "orders.csv")
    assert str(caught.value) == (
        f"orders.csv lacks 'order_id', which the contract Orders requires; {has}: rename the "
        "column in the file or change the contract."
    )


def test_a_first_line_that_is_a_row_is_not_quoted() -> None:
    with pytest.raises(RefusedError) as caught:
        bind(["7", "Vera Cohen", "vera@example.org"], Orders.spec, "orders.csv")
    assert "has none of the columns" in str(caught.value)
    assert "if its first line is a row, add the line" in str(caught.value)
    assert "Vera" not in str(caught.value)
    assert "example.org" not in str(caught.value)


def test_unknown_columns_are_kept_as_json_whatever_they_hold() -> None:
    texts = ['say "hi"\\', "naïve 👩‍👩‍👧 שלום\t\n", None, "\x1f\u2028", "", " 007 "]
    names = ["Größe (cm)", 'a"b', "xmin", "日付", "Note", "note "]
    binding = bind((*HEADER, *names), Orders.spec, "orders.csv")
    assert binding.unknown == tuple(names)
    accepted, _ = run([[*GOOD, *texts]], [*HEADER, *names])
    kept = json.loads(accepted[EXTRA][0])
    assert sorted(map(str, kept.values())) == sorted(map(str, texts))
    assert kept["a_b"] == texts[1]
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in kept)


def test_a_nul_in_an_unknown_column_rejects_its_row() -> None:
    accepted, rejects = run([[*GOOD, "a\0"], [*GOOD, "a"]], [*HEADER, "Note"])
    assert accepted.height == 1
    assert [(each.rule, each.column, each.line) for each in rejects] == [("type", "Note", 2)]


def hash_of(row: Sequence[str | None], header: Sequence[str] = HEADER) -> int:
    accepted, _ = run([row], header)
    return int(accepted[ROW_HASH][0])


def test_row_hashes_are_those_of_every_other_version_of_every_library() -> None:
    # Rows in warehouses carry these numbers: another result makes every row look changed.
    empty = changed(channel=None, mail=None, seen_at=None, price=None, share=None, paid=None)
    found = [hash_of(GOOD), hash_of(empty), hash_of([*GOOD, "7", None], [*HEADER, "b", "a"])]
    assert found == [
        -7207296856546286386,
        -3762698759756961991,
        -1850632426831917092,
    ]


def test_what_says_the_same_has_the_same_hash_and_nothing_else_has() -> None:
    same = changed(order_id=" 1.0", placed_on="29/02/2024", price="1,5", paid="T", channel=" web")
    assert hash_of(same) == hash_of(GOOD)
    different = [
        changed(order_id="2"),
        changed(price="1.51"),
        changed(paid="no"),
        changed(seen_at=None),
        changed(channel=None),
        changed(mail=None),
        changed(channel="shop"),
        changed(seen_at="2024-02-29T10:00:00Z"),
    ]
    assert len({hash_of(GOOD), *map(hash_of, different)}) == len(different) + 1
    assert hash_of(changed(share="-0.0")) == hash_of(changed(share="0"))


def test_unknown_columns_are_in_the_hash_in_whatever_order_they_stand() -> None:
    header = [*HEADER, "a", "b"]
    one = hash_of([*GOOD, "1", "2"], header)
    assert one == hash_of(["2", "1", *GOOD], ["b", "a", *HEADER])
    assert one != hash_of([*GOOD, "1", "3"], header)
    assert one != hash_of(GOOD)


cells = st.one_of(
    st.none(),
    st.sampled_from(
        [*(each for each in GOOD), "", "null", "0", "-1", "2", "x", "shop", "1,5", "1.005", "inf"]
    ),
    st.text(max_size=6),
)
rows = st.lists(st.tuples(*[cells] * len(HEADER)), max_size=12)


@settings(max_examples=40)
@given(rows, st.integers(1, 5))
def test_hashes_and_verdicts_do_not_depend_on_the_block(
    given_rows: list[tuple[str | None, ...]], size: int
) -> None:
    whole, rejected = run(given_rows)
    parts = [
        run(given_rows[start : start + size], first_line=2 + start)
        for start in range(0, len(given_rows), size)
    ]
    assert [row for part, _ in parts for row in part.rows()] == whole.rows()
    assert [each for _, rejects in parts for each in rejects] == rejected
    assert whole.height + len(rejected) == len(given_rows)


def keeps_the_contract(row: Sequence[str | None]) -> bool:
    """Read the contract of Orders once more, in Python alone, for plain spellings."""
    found = dict(zip(HEADER, (None if each is None else each.strip() for each in row), strict=True))
    nothing = {None, "", "null"}
    try:
        if found["order_id"] in nothing or int(str(found["order_id"])) < 1:
            return False
        day = str(found["placed_on"])
        if dt.date.fromisoformat(day) < dt.date(2000, 1, 1):
            return False
        if found["price"] not in nothing and Decimal(str(found["price"])) < 0:
            return False
        if found["share"] not in nothing and not -1e300 < float(str(found["share"])) <= 1:
            return False
        if found["seen_at"] not in nothing:
            dt.datetime.fromisoformat(str(found["seen_at"]))
    except (ValueError, ArithmeticError):
        return False
    mail = found["mail"]
    return (
        found["channel"] in {None, "", "web", "shop"}
        and (mail in {None, ""} or re.match(r"\S+@\S+\Z", str(mail)) is not None)
        and found["paid"] in {*nothing, "yes", "no", "1", "0"}
    )


plain = st.tuples(
    st.sampled_from([None, "", "null", "1", " 2", "0", "-3", "x", str(2**62)]),
    st.sampled_from([None, "null", "2024-02-29", "2023-02-29", "1999-12-31", "2000-01-01", "x"]),
    st.sampled_from([None, "null", "1.50", "0", "-0.01", "x", "-1"]),
    st.floats(-2, 2).map(repr) | st.sampled_from([None, "null", "inf", "-inf", "x"]),
    st.sampled_from([None, "", "web", " shop ", "Web", "null", "post"]),
    st.sampled_from([None, "", "a@b", "a@", "@b", "a b@c", "a@b c", "null"]),
    st.sampled_from([None, "null", "yes", "no", "1", "2", "x"]),
    st.sampled_from([None, "null", "2024-02-29T10:00:00+01:00", "2024-02-30T10:00:00", "x"]),
)


@settings(max_examples=60)
@given(st.lists(plain, max_size=12))
def test_a_row_is_accepted_exactly_when_another_reading_of_the_contract_accepts_it(
    given_rows: list[tuple[str | None, ...]],
) -> None:
    accepted, rejects = run(given_rows, first_line=0)
    expected = [line for line, row in enumerate(given_rows) if keeps_the_contract(row)]
    assert accepted[LINE].to_list() == expected
    assert sorted([*expected, *(each.line for each in rejects)]) == list(range(len(given_rows)))


def test_the_sample_contracts_take_a_row_of_their_files() -> None:
    sale = ("1", "676", "318", "2024-01-01", "11", "70.99", "0.15", "web")
    accepted, rejects = run([sale], Sales.spec.names, dataset=Sales)
    assert (accepted.height, rejects) == (1, [])
    customer = ("1", "Vera", "v@example.org", "Galway", None, "2022-05-20", "50.00")
    accepted, rejects = run([customer], Customers.spec.names, dataset=Customers)
    assert accepted["country"].to_list() == ["unknown"]
    assert Customers.spec.column("country").missing not in set(Missing)


def test_the_hash_of_personal_rows_is_over_their_values_and_needs_the_key() -> None:
    rows = [
        ["1", "a@b", "1990-01-02", "Ulm"],
        ["1", " a@b ", "1990-01-02", "Ulm"],
        ["1", "a@c", "1990-01-02", "Ulm"],
        ["1", "a@b", "1990-01-03", "Ulm"],
        ["1", "a@b", None, "Ulm"],
        ["1", "a@b", "1990-01-02", "Bonn"],
    ]

    def hashes(keys: KeyRing | None) -> list[int]:
        return run(rows, PEOPLE, dataset=People, keys=keys)[0][ROW_HASH].to_list()

    first, again, *others = hashes(KEYS)
    assert first == again
    assert len({first, *others}) == 5
    # Another cell key changes nothing; without the index's key, or with another, no guess fits.
    assert hashes(KeyRing([bytes([3]) * 32], [bytes([2]) * 32])) == [first, again, *others]
    assert not set(hashes(None)) & {first, *others}
    assert not set(hashes(KeyRing([bytes([1]) * 32], [bytes([4]) * 32]))) & {first, *others}


def test_personal_columns_get_an_index_beside_them() -> None:
    accepted, _ = run(
        [["1", "a@b", "1990-01-02", "Ulm"], ["2", None, None, None]],
        PEOPLE,
        dataset=People,
        keys=KEYS,
    )
    place = Place("people", "mail")
    assert accepted["_mail_index"].to_list() == [KEYS.find_by("a@b", place)[0], None]
    born = KEYS.find_by("1990-01-02", Place("people", "born_on"))[0]
    assert accepted["_born_on_index"].to_list() == [born, None]
    assert accepted["mail"].to_list() == ["a@b", None]
