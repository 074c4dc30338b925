"""What is about a person, and what only looks like it."""

import json

import pytest

from schemas.dataset import Dataset, Role, column
from tasks.mentions import Mentions

ANN = "ann@example.com"


class Seats(Dataset, table="seats", role=Role.DIMENSION, key=("row", "place")):
    """A dataset with a key of two columns."""

    row: str = column()
    place: int = column()
    holder: str = column(pii=True)


class Members(Dataset, table="members", role=Role.DIMENSION, key=("member_id",)):
    """A dataset with a key of one."""

    member_id: int = column()
    email: str = column(pii=True)
    points: int = column(nullable=True)


def envelope(payload: object) -> str:
    return json.dumps({"source": "members", "timestamp": "2026-01-01", "payload": payload})


BY_VALUE = Mentions(ANN)
BY_KEY = Mentions(None, Members.spec, frozenset({("17",)}))


@pytest.mark.parametrize(
    "text",
    [
        ANN,
        "1,Ann@Example.COM,x",
        f"to: <{ANN}>, and so on",
        f"It was {ANN}.",
        '{"who": {"mail": "ann\\u0040example.com"}}',
        f'["x", ["{ANN}"]]',
        f"no JSON {{ {ANN}",
        "[" * 900 + '"ann\\u0040example.com"' + "]" * 900,
    ],
)
def test_a_value_is_found_as_a_word_of_its_own(text: str) -> None:
    assert BY_VALUE.are_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "joann@example.com",
        "x-ann@example.com",
        "ann@example.com.au",
        "ann@example.community",
        "annexample.com",
        '{"ann": "example.com"}',
    ],
)
def test_and_not_within_another(text: str) -> None:
    assert not BY_VALUE.are_in(text)


def test_letters_are_the_same_however_they_are_composed() -> None:
    assert Mentions("José Peña").are_in("1,Jose\u0301 Pen\u0303a,x")
    assert Mentions('Ann "Lee"').are_in('1,"Ann ""Lee""",x')
    assert Mentions("a.c (x)").are_in("1,a.c (x),2")
    assert not Mentions("a.c").are_in("1,abc,2")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (envelope({"member_id": 17}), None),
        (envelope({"Member ID": " 017 "}), None),
        (envelope([{"member_id": 3}, {"member": {"id": "17"}}]), None),
        ('{"member_id": "17"}', None),
        ("17,no mail,5", None),
        ("17;no mail;5", None),
        ("no JSON", "members:17"),
    ],
)
def test_a_row_is_found_by_its_key(text: str, key: str | None) -> None:
    assert BY_KEY.are_in(text, key)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (envelope({"member_id": 171, "points": 17}), "members:171"),
        ('{"points": 17}', None),
        ("3,no mail,17", None),
        ("17,no mail", None),
        ("17", None),
        ("no JSON", "sales:17"),
        ("[[[", None),
        ("[" * 100_000, None),
        ("[" * 900 + "17" + "]" * 900, None),
    ],
)
def test_a_number_somewhere_is_no_key(text: str, key: str | None) -> None:
    assert not BY_KEY.are_in(text, key)


def test_in_a_record_of_other_columns_a_key_counts_beside_what_is_the_persons() -> None:
    mentions = Mentions(None, Members.spec, frozenset({("17",)}), lambda cell: cell == "Ann Lee")
    assert mentions.are_in("x,Ann Lee,y,17,z")
    assert not mentions.are_in("x,Ann Lee,y,18,z")
    assert not mentions.are_in("x,Joann Lee,y,17,z")


def test_a_key_of_two_columns_is_found_as_one() -> None:
    mentions = Mentions(None, Seats.spec, frozenset({("a|b", "3")}))
    assert mentions.are_in("", "seats:a\\|b|3")
    assert mentions.are_in('{"row": "a|b", "place": 3}')
    assert not mentions.are_in('{"row": "a|b", "place": 4}')
    assert mentions.are_in("a|b,3,x")
