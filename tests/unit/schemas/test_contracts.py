"""A contract that cannot be meant is refused when its class is defined, with one sentence."""

import datetime as dt
import textwrap
from decimal import Decimal
from typing import ClassVar, Optional

import pandera.polars as pa
import pytest

from schemas.dataset import Dataset, History, Kind, Missing, Role, Spec, column
from schemas.datasets import Customers, Products, Sales
from schemas.errors import ContractError

STAGING = 'table="t", role=Role.STAGING'
DIMENSION = 'table="t", role=Role.DIMENSION, key=("a",)'
FACT = 'table="t", role=Role.FACT, key=("a",)'
NAMES = {
    "Customers": Customers,
    "ClassVar": ClassVar,
    "Dataset": Dataset,
    "Decimal": Decimal,
    "History": History,
    "Missing": Missing,
    "Optional": Optional,
    "Products": Products,
    "Role": Role,
    "Sales": Sales,
    "column": column,
    "dt": dt,
    "pa": pa,
}


def define(
    body: str, keywords: str = STAGING, *, base: str = "Dataset", doc: str = '"""One row."""'
) -> type[Dataset]:
    names = dict(NAMES)
    lines = textwrap.indent(f"{doc}\n{body}", "    ")
    exec(f"class Broken({base}, {keywords}):\n{lines}\n", names)  # noqa: S102 - the tests' own text
    defined: type[Dataset] = names["Broken"]
    return defined


def refusal(body: str, keywords: str = STAGING, **more: str) -> str:
    with pytest.raises(ContractError) as caught:
        define(body, keywords, **more)
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("a: int = column(nulable=True)", "column 'a' has no check named 'nulable'; there are eq,"),
        ("a: int = column(unique=True)", "column 'a' has no check named 'unique'"),
        ("a: int = column(alias='b')", "column 'a' has no check named 'alias'"),
        ("a: int = column(ge='z')", "column 'a' has a check ge='z' that cannot be: 'z' is no int"),
        ("a: int = column(ge=1.5)", "1.5 is no integer of 64 bits"),
        ("a: int = column(ge=True)", "True is no integer of 64 bits"),
        ("a: int = column(le=10**30)", "is no integer of 64 bits"),
        ("a: int = column(eq=None)", "None is no integer of 64 bits"),
        ("a: int = column(isin=['1'])", "'1' is no integer of 64 bits"),
        ("a: int = column(isin=[])", "the list is empty"),
        ("a: str = column(isin='abc')", "give a list of values"),
        ("a: int = column(isin=3)", "give a list of values"),
        ("a: int = column(in_range=(3, 1))", "empty interval"),
        ("a: int = column(in_range=3)", "give (min_value, max_value)"),
        ("a: int = column(in_range=(1, 2, 3))", "include_min and include_max are True or False"),
        ("a: int = column(in_range={'min_value': 1, 'max_value': 2, 'x': 3})", "not x"),
        ("a: int = column(ge=5, le=1)", "has checks that no value keeps: from 5 and up to 1"),
        ("a: int = column(gt=1, le=1)", "has checks that no value keeps"),
        ("a: int = column(lt=3, in_range=(3, 4))", "has checks that no value keeps"),
        ("a: int = column(str_matches='x')", "column 'a' is integer, and str_matches is for text"),
        ("a: str = column(str_matches='(')", "unterminated subpattern"),
        ("a: str = column(str_matches=r'(?=x)')", "Polars does not know this regular expression"),
        ("a: str = column(str_contains=3)", "give the regular expression as text"),
        ("a: str = column(str_length={'min': 1})", "give a length"),
        ("a: str = column(str_length=-1)", "lengths are integers from 0"),
        ("a: str = column(str_length=(3, 2))", "no text is that short and that long"),
        ("a: str = column(ge=1)", "1 is no text that PostgreSQL can hold"),
        ("a: str = column(ne='\\0')", "is no text that PostgreSQL can hold"),
        ("a: bool = column(ge=False)", "column 'a' is boolean, and ge compares sizes"),
        ("a: Decimal = column(ge=0.1)", "0.1 is no int or Decimal of at most 18 digits, 2 of them"),
        ("a: Decimal = column(ge=Decimal('0.001'))", "is no int or Decimal"),
        ("a: float = column(le=float('inf'))", "inf is no finite number"),
        ("a: dt.date = column(ge=dt.datetime(2000, 1, 1))", "is no date"),
        ("a: dt.datetime = column(ge=dt.datetime(2000, 1, 1))", "is no datetime with a time zone"),
    ],
)
def test_a_check_that_cannot_be_is_refused(body: str, said: str) -> None:
    message = refusal(body)
    assert message.startswith("Broken: column 'a' ")
    assert said in message
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("a: int", "describe column 'a' with column()"),
        ("a: int = 3", "describe column 'a' with column()"),
        ("a: int = pa.Field(ge=1)", "describe column 'a' with column()"),
        ("a = column()", "column 'a' has no type; write a: str = column(…)"),
        ("a: int = column()\nb = 3", "'b' is no column"),
        ("a: int = column()\ndef f(self): return 1", "'f' is no column"),
        ("a: int = column()\n@pa.check('a')\ndef f(cls, d): return True", "'f' is no column"),
        ("a: int = column()\n@pa.dataframe_check\ndef f(cls, d): return 1", "'f' is no column"),
        ("a: int = column()\nclass Config:\n    strict = True", "'Config' is no column"),
        ("a: Optional[int] = column()", "column 'a' has the type typing.Optional[int]; use one of"),
        (
            "a: int | None = column()",
            "column 'a' has the type int | None; use one of Decimal, bool",
        ),
        ("a: bytes = column()", "column 'a' has the type bytes; use one of"),
        ("a: list[int] = column()", "column 'a' has the type list[int]; use one of"),
        ("a: ClassVar[int] = column()", "column 'a' has the type typing.ClassVar[int]"),
        ("a: 'Nope' = column()", "a column's type makes no sense: name 'Nope' is not defined"),
        ("pass", "the class has no columns"),
        ("A: int = column()", "'A' is no usable name"),
        ("_a: int = column()", "'_a' is no usable name"),
        ("a__b: int = column()", "'a__b' is no usable name"),
        ("a_: int = column()", "'a_' is no usable name"),
        ("größe: int = column()", "'größe' is no usable name"),
        (f"{'a' * 44}: int = column()", "at most 43 characters"),
        ("xmin: int = column()", "'xmin' is the name of a column that PostgreSQL keeps"),
        ("validate: int = column()", "'validate' is the name of something that every contract has"),
        ("spec: int = column()", "'spec' is the name of something that every contract has"),
        ("a: int = column(pii='yes')", "column 'a' has pii='yes'; give True or False"),
        ("a: int = column(nullable=1)", "column 'a' has nullable=1; give True or False"),
        ("a: int = column(nullable=True, missing=3)", "column 'a' has missing=3 and nullable=True"),
        ("a: int = column(missing=None)", "column 'a' has missing=None"),
        ("a: int = column(missing='x')", "column 'a' cannot be filled in: 'x' is no integer"),
        ("a: int = column(missing=True)", "column 'a' cannot be filled in: True is no integer"),
        ("a: int = column(missing=2**63)", "column 'a' cannot be filled in"),
        (
            "a: float = column(missing=float('nan'))",
            "column 'a' cannot be filled in: nan is no fin",
        ),
        (
            "a: Decimal = column(missing=0.5)",
            "column 'a' cannot be filled in: 0.5 is no int or Dec",
        ),
        ("a: Decimal = column(missing=Decimal('1.005'))", "column 'a' cannot be filled in"),
        ("a: Decimal = column(missing=10**17)", "column 'a' cannot be filled in"),
        ("a: bool = column(missing=0)", "column 'a' cannot be filled in: 0 is no bool"),
        ("a: str = column(missing=0)", "column 'a' cannot be filled in: 0 is no text"),
        ("a: str = column(missing='null')", "would fill in the word 'null'; write Missing.NULL"),
        ("a: str = column(missing='reject')", "write Missing.REJECT"),
        ("a: dt.date = column(missing='2024-01-01')", "column 'a' cannot be filled in"),
        (
            "a: int = column(missing=0, ge=1)",
            "breaks its own check: 0 is not greater_than_or_equal",
        ),
        (
            "a: str = column(missing='xy', str_length=1)",
            "breaks its own check: 'xy' is not str_leng",
        ),
        ("a: Decimal = column(missing=2, isin=[1, Decimal('1.5')])", "breaks its own check: 2"),
        ("a: int = column(formats=('%Y',))", "column 'a' has formats, and is integer"),
        ("a: dt.date = column(formats='%Y-%m-%d')", "give a tuple of texts"),
        ("a: dt.date = column(formats=('%Q',))", "column 'a' has the format '%Q', which cannot"),
        ("a: dt.date = column(formats=('%m/%d',))", "column 'a' has the format '%m/%d'"),
        ("a: dt.datetime = column(formats=('%H:%M',))", "column 'a' has the format '%H:%M'"),
        ("a: int = column(scale=3)", "column 'a' has a scale, and is integer"),
        ("a: Decimal = column(scale=-1)", "column 'a' has scale=-1; give 0 to 18"),
        ("a: Decimal = column(scale=19)", "column 'a' has scale=19; give 0 to 18"),
        ("a: int = column(references=3)", "column 'a' references 3, which is no contract"),
        ("a: int = column(references=Dataset)", "which is no contract"),
        ("a: int = column(references=Sales)", "column 'a' references Sales, which is no dimension"),
        (
            "a: str = column(references=Customers)",
            "column 'a' is text, but the key of Customers is",
        ),
    ],
)
def test_a_column_that_cannot_be_is_refused(body: str, said: str) -> None:
    message = refusal(body)
    assert message.startswith("Broken: ")
    assert said in message
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.parametrize(
    ("keywords", "body", "said"),
    [
        ("role=Role.STAGING", "a: int = column()", "class keywords table=… and role=… are missing"),
        ('table="t"', "a: int = column()", "class keywords table=… and role=… are missing"),
        (f"{STAGING}, tabel=3", "a: int = column()", "there is no class keyword 'tabel'"),
        ('table="t", role="fact"', "a: int = column()", "role is 'fact'; give one of Role.DIM"),
        ('table="T", role=Role.STAGING', "a: int = column()", "'T' is no usable name"),
        (f'table="{"t" * 41}", role=Role.STAGING', "a: int = column()", "at most 40 characters"),
        ('table="t", role=Role.FACT', "a: int = column()", "a fact needs a key"),
        ('table="t", role=Role.FACT, key="a"', "a: int = column()", "give a tuple of column names"),
        (
            'table="t", role=Role.FACT, key=("b",)',
            "a: int = column()",
            "key names no column: ['b']",
        ),
        ('table="t", role=Role.FACT, key=("a", "a")', "a: int = column()", "names a column twice"),
        (FACT, "a: int = column(nullable=True)", "key columns cannot be nullable: ['a']"),
        (FACT, "a: int = column(pii=True)", "column 'a' is personal and part of the key: what is"),
        (
            f'{STAGING}, version="b"',
            "a: int = column()\nb: dt.datetime = column(pii=True)",
            "column 'b' is personal and the version",
        ),
        (
            f'{STAGING}, event_time="b"',
            "a: int = column()\nb: dt.date = column(pii=True)",
            "column 'b' is personal and the event time",
        ),
        (
            STAGING,
            "a: int = column(pii=True, references=Customers)",
            "column 'a' is personal and a reference",
        ),
        (FACT, "a: float = column()", "key columns cannot be floating-point numbers: ['a']"),
        (FACT, "a: int = column(missing=1)", "a key cannot be filled in with a default: ['a']"),
        (f'{FACT}, history="type 2"', "a: int = column()", "history is 'type 2'; give one of"),
        (f"{FACT}, history=History.KEEP_VERSIONS", "a: int = column()", "only a dimension can"),
        (f"{STAGING}, freshness=3", "a: int = column()", "freshness is 3; give a timedelta"),
        (f"{STAGING}, freshness=dt.timedelta(0)", "a: int = column()", "give a timedelta above"),
        (f'{STAGING}, version="b"', "a: int = column()", "version names no column: 'b'"),
        (f'{STAGING}, version="a"', "a: dt.date = column()", "must be a datetime that cannot"),
        (f'{STAGING}, version="a"', "a: dt.datetime = column(nullable=True)", "must be a datetime"),
        (f'{STAGING}, event_time="b"', "a: int = column()", "event_time names no column: 'b'"),
        (f'{STAGING}, event_time="a"', "a: int = column()", "must be a date or a datetime"),
        (DIMENSION, "a: int = column()\na_key: int = column()", "'a_key' is the name of a column"),
        (
            'table="t", role=Role.DIMENSION, key=("id",)',
            "id: int = column()\nt_key: int = column()",
            "'t_key' is the name of a column that the warehouse adds",
        ),
        (
            FACT,
            "a: int = column()\nb_id: int = column(references=Customers)\nb_key: int = column()",
            "'b_key' is the name of a column that the warehouse adds",
        ),
        (
            f"{DIMENSION}, history=History.KEEP_VERSIONS",
            "a: int = column()\nis_current: bool = column()",
            "'is_current' is the name of a column that the warehouse adds",
        ),
    ],
)
def test_a_class_that_cannot_be_is_refused(keywords: str, body: str, said: str) -> None:
    message = refusal(body, keywords)
    assert message.startswith("Broken: ")
    assert said in message
    assert "\n" not in message


def test_a_contract_needs_a_docstring_of_its_own() -> None:
    assert "has no docstring; say what one row is" in refusal("a: int = column()", doc="")


def test_a_contract_cannot_inherit_from_another() -> None:
    message = refusal("a: int = column()", base="Customers")
    assert message == (
        "Broken: a contract cannot inherit from Customers; write its columns into it."
    )


def test_a_reference_to_a_key_of_several_columns_is_refused() -> None:
    NAMES["Pair"] = define(
        "a: int = column()\nb: int = column()",
        'table="pairs", role=Role.DIMENSION, key=("a", "b")',
    )
    said = refusal("a: int = column(references=Pair)")
    assert "whose key has several columns" in said


def test_a_composite_key_may_have_a_default_in_one_part() -> None:
    made = define(
        "a: int = column()\nb: str = column(missing='web')",
        'table="t", role=Role.FACT, key=("a", "b")',
    )
    assert made.spec.key == ("a", "b")


def test_a_contract_says_what_was_written() -> None:
    spec = Sales.spec
    assert isinstance(spec, Spec)
    assert spec.description == "One row per order line, as the shop's till reported it."
    assert spec.names[:3] == ("order_id", "customer_id", "product_id")
    assert [each.name for each in spec.references] == ["customer_id", "product_id"]
    price = spec.column("unit_price")
    assert (price.kind, price.scale, price.nullable, price.default) == (
        Kind.DECIMAL,
        2,
        False,
        None,
    )
    assert spec.column("discount").default == 0.0
    assert spec.column("channel").missing is Missing.NULL
    with pytest.raises(KeyError):
        spec.column("nope")


def test_personal_columns_are_marked_and_no_other() -> None:
    assert {each.name for each in Customers.spec.columns if each.pii} == {"name", "email"}
    assert not any(each.pii for each in Products.spec.columns)


def test_annotations_may_be_text() -> None:
    names = NAMES | {"__name__": __name__}
    source = f'''from __future__ import annotations
class Later(Dataset, {STAGING}):
    """One row."""
    a: Decimal = column(scale=3)
    b: dt.datetime = column()
'''
    exec(source, names)  # noqa: S102 - the test's own text
    assert [each.kind for each in names["Later"].spec.columns] == [Kind.DECIMAL, Kind.TIMESTAMP]


BASE = "a: int = column(ge=1)\nb: float = column(nullable=True, le=2)\nc: dt.date = column()"


@pytest.mark.parametrize(
    ("keywords", "body"),
    [
        ('table="u", role=Role.FACT, key=("a",)', BASE),
        ('table="t", role=Role.DIMENSION, key=("a",)', BASE),
        ('table="t", role=Role.FACT, key=("a", "c")', BASE),
        (f'{FACT}, event_time="c"', BASE),
        (FACT, BASE.replace("ge=1", "ge=2")),
        (FACT, BASE.replace("ge=1", "gt=1")),
        (FACT, BASE.replace("ge=1", "")),
        (FACT, BASE.replace("le=2", "le=2, pii=True")),
        (FACT, BASE.replace("ge=1", "ge=1, references=Customers")),
        (FACT, BASE.replace("b: float", "b: Decimal")),
        (FACT, BASE.replace("nullable=True, le=2", "missing=1, le=2")),
        (FACT, BASE.replace("nullable=True, le=2", "missing=1.5, le=2")),
        (FACT, BASE.replace("nullable=True, le=2", "le=2")),
        (FACT, BASE.replace("b:", "d:")),
        (FACT, BASE.replace("date = column()", "date = column(formats=('%d/%m/%Y',))")),
        (FACT, f"{BASE}\ne: int = column()"),
    ],
)
def test_the_version_changes_with_the_meaning(keywords: str, body: str) -> None:
    before = define(BASE, FACT).spec.contract_version
    assert define(body, keywords).spec.contract_version != before
    assert len(before) == 12


@pytest.mark.parametrize(
    ("keywords", "body"),
    [
        (f"{FACT}, freshness=dt.timedelta(hours=1)", BASE),
        (FACT, BASE.replace("ge=1", "ge=1, description='A number.'")),
        (FACT, BASE.replace("le=2", "le=2.0")),
        (FACT, BASE.replace("nullable=True", "missing=Missing.NULL")),
    ],
)
def test_the_version_stays_with_the_meaning(keywords: str, body: str) -> None:
    before = define(BASE, FACT).spec.contract_version
    assert define(body, keywords, doc='"""Another text."""').spec.contract_version == before


def test_the_version_does_not_depend_on_the_order_of_a_set() -> None:
    ways = ("{'x', 'y', 'z'}", "['z', 'y', 'x']", "('x', 'y', 'z')")
    made = {define(f"a: str = column(isin={way})").spec.contract_version for way in ways}
    assert len(made) == 1


def test_the_versions_of_the_datasets_are_the_same_in_every_process() -> None:
    # A change of these means that every warehouse sees a new contract: it must be meant.
    versions = [each.spec.contract_version for each in (Customers, Products, Sales)]
    assert versions == ["fa4e9ae9e7ad", "32b2a7787f94", "38c4350f7feb"]
