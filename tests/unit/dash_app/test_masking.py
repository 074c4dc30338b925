"""What may be personal is not shown."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dash_app.access.users import Role
from dash_app.masking import (
    hide_addresses,
    impersonal,
    may_be_personal,
    show_bounds,
    show_raw,
    show_reason,
)
from infra.hiding import hide


def test_a_hidden_text_keeps_its_punctuation_and_white_space_only() -> None:
    assert hide('17;"Ada, née Müller"\ta_b@x.org') == '••;"•••, ••• ••••••"\t•••@•.•••'


@given(st.text())
def test_no_letter_digit_or_mark_of_any_script_is_left(text: str) -> None:
    hidden = hide(text)

    assert len(hidden) == len(text)
    assert not re.search(r"\w", hidden)
    assert all(each in "•!\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~" or each.isspace() for each in hidden)


def test_the_vowel_signs_of_hindi_are_hidden_too() -> None:
    assert set(hide("हिन्दी")) == {"•"}


@pytest.mark.parametrize(
    ("dataset", "role", "shown"),
    [
        ("sales_data", Role.OPERATOR, "1;Ada"),
        ("sales_data", Role.VIEWER, "•;•••"),
        ("customers", Role.OPERATOR, "•;•••"),
        ("customers", Role.VIEWER, "•;•••"),
        ("who_knows", Role.OPERATOR, "•;•••"),
    ],
)
def test_raw_rows_are_read_by_operators_and_where_nothing_is_personal(
    dataset: str, role: Role, shown: str
) -> None:
    assert show_raw(dataset, "1;Ada", is_operator=role is Role.OPERATOR) == shown


@pytest.mark.parametrize("is_operator", [True, False])
def test_an_encrypted_row_is_called_so(is_operator: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert show_raw("customers", None, is_operator=is_operator) == "encrypted"


def test_a_dataset_without_a_contract_may_be_personal() -> None:
    assert may_be_personal("who_knows")
    assert may_be_personal("api_users")
    assert impersonal() == {"products", "sales_data"}


def test_a_reason_shows_no_cell_of_a_dataset_with_personal_columns() -> None:
    # The row lacks its first cell: the name stands where the number should.
    reason = "customer_id 'Ada O'Brien' is not an integer; signup_date 'a@b.org' is not a date"

    shown = show_reason("customers", reason)

    assert shown.startswith("customer_id '••• •'•••••' •• ")
    assert shown.endswith("'•@•.•••' is not a date")
    assert show_reason("sales_data", reason) == reason
    assert show_reason("customers", "email is missing") == "email is missing"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("550 <ops@example.org> is unknown", "550 <•••> is unknown"),
        ("ops@localhost, eve@x.org: refused", "•••, •••: refused"),
        ("ntfy://host/secret-topic answered 403", "ntfy://••• answered 403"),
        ("smtp+tls://user:pass@mail.example:587 timed out", "smtp+tls://••• timed out"),
        ("connection refused", "connection refused"),
        ("(554, b'5.7.1 ada@x.org: denied')", "(554, b'5.7.1 •••: denied')"),
    ],
)
def test_an_error_of_sending_names_nobody(error: str, shown: str) -> None:
    assert hide_addresses(error) == shown


def test_bounds_are_shown_of_impersonal_columns_of_a_contract_alone() -> None:
    assert "city" in show_bounds("customers")
    assert not {"name", "email"} & set(show_bounds("customers"))
    assert show_bounds("of_nobody") == ()
