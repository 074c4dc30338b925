"""What is hidden, and what has to stay for a message to be of use."""

import json

import pytest
from pydantic import BaseModel, SecretStr

from infra.redaction import (
    MASK,
    MAX_CHARACTERS,
    PERSONAL,
    hide_password_of,
    hide_secrets_of,
    is_hidden_key,
    redact,
    redact_fields,
)
from infra.settings import Settings

TRACEBACK = """Traceback (most recent call last):
  File "/app/tasks/load.py", line 7, in load
    await connection.execute(statement)
asyncpg.exceptions.NotNullViolationError: null value in column "name" of relation "customers"
DETAIL:  Failing row contains (1, null, Ann (the 2nd),
ann, 12.5).

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/tasks/load.py", line 9, in load
    raise TransientError(said)
schemas.errors.TransientError: PostgreSQL went away
"""


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://loader:pw@db.example:5432/x", "postgresql://•••@db.example:5432/x"),
        ("postgresql://loader:p/w@d@db:5432/x failed", "postgresql://•••@db:5432/x failed"),
        ("http://proxy@host/", "http://•••@host/"),
        ("Authorization: Bearer abc.def", "Authorization: •••"),
        ('{"Authorization": "Basic YW5uOng="}', '{"Authorization": •••}'),
        ("sent Bearer abc.def, refused", "sent Bearer •••, refused"),
        ("sent basic YW5uOng= twice", "sent basic ••• twice"),
        ("https://api.example/x?api_key=abc&page=2", "https://api.example/x?api_key=•••&page=2"),
        ("host=db password=a,b)c user=ann", "host=db password=••• user=ann"),
        ("password='a\\'b c', then", "password=•••, then"),
        ('{"db_password": "a\\"b", "n": 1}', '{"db_password": •••, "n": 1}'),
        ("SECRET_KEY: hunter", "SECRET_KEY: •••"),
        ("ann.b+c@example.com, o'neill@x.y.", "•••, o'•••."),
        ("user=ann%40example.com&n=1", "user=•••&n=1"),
        ("José.é@bücher.example wrote", "••• wrote"),
        ("{'name': 'Ann', 'n': 1}", "{'name': •••, 'n': 1}"),
        ('[{"phone": "1-2"}, {"phone": null}]', '[{"phone": •••}, {"phone": null}]'),
        ('{"address_geo_lat": -12.5, "name": ["A", "B"]}', '{"address_geo_lat": •••, "name": •••}'),
        ("Row(id=1, username='ann', email=None)", "Row(id=1, username=•••, email=None)"),
        ('{\\"name\\": \\"Ann\\"}', '{\\"name\\": •••'),
    ],
)
def test_secrets_and_personal_values_are_hidden_in_text(given: str, shown: str) -> None:
    assert redact(given) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("Key (email)=(ann) already exists.", "Key (email)=(•••) already exists."),
        (
            'Key (a, b)=(1, x) y) is not present in table "t".',
            'Key (a, b)=(•••) is not present in table "t".',
        ),
        (
            "Key (a)=(1) conflicts with existing key (a)=(2).",
            "Key (a)=(•••) conflicts with existing key (a)=(•••).",
        ),
        (
            "Partition key of the failing row contains (email) = (ann).",
            "Partition key of the failing row contains (•••).",
        ),
        (
            'invalid input syntax for type integer: "Ann "the" 2nd"',
            'invalid input syntax for type integer: "•••"',
        ),
        (
            'date/time field value out of range: "Ann"\nHINT:  Perhaps',
            'date/time field value out of range: "•••"\nHINT:  Perhaps',
        ),
        (
            'value "99" is out of range for type integer',
            'value "•••" is out of range for type integer',
        ),
        (
            'COPY customers, line 3, column phone: "12"',
            'COPY customers, line 3, column phone: "•••"',
        ),
        ('COPY customers, line 3: "1,Ann"', 'COPY customers, line 3: "•••"'),
        (
            "invalid input for query argument $1: 'Ann (x)' ('str' object has no meaning)",
            "invalid input for query argument $1: ••• ('str' object has no meaning)",
        ),
        ("parameters: $1 = 'Ann''s', $2 = '4'", "parameters: $1 = '•••', $2 = '•••'"),
        ('Token "Ann" is invalid.', 'Token "•••" is invalid.'),
        ("JSON data, line 1: {Ann", "JSON data, line 1: •••"),
        (
            "could not convert string to float: 'Ann'",
            "could not convert string to float: •••",
        ),
    ],
)
def test_an_errors_row_values_are_hidden_and_its_columns_stay(given: str, shown: str) -> None:
    assert redact(given) == shown


def test_what_follows_a_failing_row_in_a_traceback_stays() -> None:
    before, rest = TRACEBACK.split("(1, null")
    after = rest.split("12.5")[1]
    assert redact(TRACEBACK) == f"{before}({MASK}{after}"


def test_a_row_that_never_ends_hides_what_follows_rather_than_showing_any_of_it() -> None:
    assert redact("Failing row contains (1, Ann\n), Bo") == f"Failing row contains ({MASK}"


@pytest.mark.parametrize(
    "message",
    [
        "columns that the contract does not know are kept in _extra: 'name', 'email'",
        "email: str_matches('^[^@]+$') failed for 3 rows",
        "column 'name' of customers: 5 rows are empty",
        "name: is missing",
        "SLUICEWAY_DATABASE_URL names no password; use one",
        "PostgreSQL at 127.0.0.1:5432 refused the login: check SLUICEWAY_DATABASE_URL.",
        "Basic authentication is not enough; give a bearer",
        "https://api.example:8443/users/ann?page=2",
        "/data/raw/customers_2026-11-23.csv could not be loaded: line 3 has 4 cells",
        "x@y and @decorator",
        "12,000 of 12,000 rows; 100% (3.5 s)",
    ],
)
def test_the_platforms_own_sentences_stay_readable(message: str) -> None:
    assert redact(message) == message


def test_fields_are_hidden_by_their_keys_however_deep_and_whatever_they_are() -> None:
    fields = {
        "event": "a row",
        "level": "info",
        "timestamp": "2026-01-01T00:00:00Z",
        "email": 1,
        "Customers.Phone": "12",
        "my_api_key": b"x",
        "nested": {"address_geo_lat": 1.5, "ann@x.example": [("bo@x.example", 2)]},
        "phone": None,
        "rows": 3,
        "share": 0.5,
        "is_new": True,
        "path": SecretStr("x"),
    }
    assert redact_fields(None, "info", fields) == {
        "event": "a row",
        "level": "info",
        "timestamp": "2026-01-01T00:00:00Z",
        "email": MASK,
        "Customers.Phone": MASK,
        "my_api_key": MASK,
        "nested": {"address_geo_lat": MASK, MASK: [[MASK, 2]]},
        "phone": None,
        "rows": 3,
        "share": 0.5,
        "is_new": True,
        "path": "**********",
    }


def test_the_personal_columns_are_those_of_the_contracts() -> None:
    assert {"name", "email", "phone", "address_street"} <= PERSONAL
    assert "customer_id" not in PERSONAL
    assert not is_hidden_key("event")
    assert not is_hidden_key("dataset")


class _Inner(BaseModel):
    token: SecretStr


class _Given(BaseModel):
    key: SecretStr
    short: SecretStr = SecretStr("abc")
    nothing: SecretStr = SecretStr("")
    inner: tuple[_Inner, ...] = ()
    by_name: dict[str, _Inner] = {}


def test_every_secret_of_the_settings_is_hidden_in_each_of_its_spellings() -> None:
    secret = 'slash/ "quote" \\ & ünicode?'
    hide_secrets_of(
        _Given(
            key=SecretStr(secret),
            inner=(_Inner(token=SecretStr("deep-in-a-tuple")),),
            by_name={"eve": _Inner(token=SecretStr("deep-in-a-dict"))},
        )
    )
    for spelling in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], "deep-in-a-tuple"):
        assert redact(f"x {spelling} y") == f"x {MASK} y"
    assert redact("slash%2F%20%22quote%22%20%5C%20%26%20%C3%BCnicode%3F") == MASK
    assert redact("deep-in-a-dict") == MASK
    assert redact("abc") == "abc"


def test_an_addresss_password_is_hidden_by_itself_and_its_host_stays() -> None:
    hide_password_of("postgresql://loader:pass%2Fword-7@db.example/x")
    assert redact("'pass/word-7' or pass%2Fword-7") == f"'{MASK}' or {MASK}"
    assert redact("postgresql://loader@db.example/x") == f"postgresql://{MASK}@db.example/x"
    hide_password_of("postgresql://db.example/without")
    assert redact("postgresql://db.example/without") == "postgresql://db.example/without"


def test_the_settings_own_secrets_are_found() -> None:
    settings = Settings(
        dashboard_users={"eve": {"password_hash": "scrypt$of-eve"}},
        api_endpoints=[
            {"url": "https://api.example/x?k=query-secret&page=100", "token": "token-secret"},
            {"url": "https://api.example/y", "headers": {"Authorization": "Basic c2VjcmV0"}},
        ],
    )
    hide_secrets_of(settings)
    given = ("scrypt$of-eve", "query-secret", "token-secret", "c2VjcmV0")
    assert [redact(each) for each in given] == [MASK] * 4
    assert redact("page=100") == "page=100"


def test_a_huge_text_is_cut_and_no_secret_is_left_at_the_cut() -> None:
    hide_password_of("postgresql://u:a-secret-at-the-cut@h/x")
    for shift in range(0, 20, 3):
        text = "x" * (MAX_CHARACTERS - shift) + "a-secret-at-the-cut" + "y" * 1_000_000
        shown = redact(text)
        assert "a-" not in shown
        assert shown.endswith(f"… (cut: it had {len(text):,} characters)")
        assert len(shown) < MAX_CHARACTERS
