"""Key rings from the settings: in order, refused in a sentence, and never shown."""

import pytest
from pydantic import SecretStr

from infra.cell_encryption import Place
from infra.cell_keys import key_ring_for, make_key, name_ids, read_key_ring
from infra.secret_texts import secrets_of
from infra.settings import Settings
from schemas.datasets import Customers, Sales
from schemas.errors import SettingError

EMAIL = Place("customers", "email")


def _settings(cell_keys: str, index_keys: str) -> Settings:
    return Settings(cell_keys=SecretStr(cell_keys), index_keys=SecretStr(index_keys))


def test_the_first_key_writes_and_the_others_are_read() -> None:
    old, new, index = make_key("old"), make_key("new"), make_key("index")
    cell = read_key_ring(_settings(old, index)).seal(b"ann", EMAIL)
    both = read_key_ring(_settings(f"{new}, {old}\n", index))
    assert both.open(cell, EMAIL) == b"ann"
    assert both.seal(b"ann", EMAIL)[1:5] == both.current_id != cell[1:5]


def test_keys_are_asked_for_only_by_contracts_with_personal_columns() -> None:
    assert key_ring_for(Sales.spec) is None
    assert key_ring_for(Sales.spec, Customers.spec) is read_key_ring()


@pytest.mark.parametrize(
    ("cell_keys", "said"),
    [
        ("", r"SLUICEWAY_CELL_KEYS is not set, and a dataset has personal columns"),
        ("marker", r"Key 1 of SLUICEWAY_CELL_KEYS is no name=key"),
        ("=marker", r"Key 1 of SLUICEWAY_CELL_KEYS is no name=key"),
        ("a=mark er", r"Key 1 of"),
        ("a=ma=rker", r"Key 1 of"),
    ],
)
def test_a_wrong_setting_is_a_sentence_that_does_not_quote_it(cell_keys: str, said: str) -> None:
    with pytest.raises(SettingError, match=said) as caught:
        read_key_ring(_settings(cell_keys, make_key()))
    assert "rker" not in str(caught.value)


def test_two_keys_of_one_name_are_refused() -> None:
    with pytest.raises(SettingError, match="two keys of one name: rename key 2"):
        read_key_ring(_settings(f"{make_key('a')} {make_key('a')}", make_key()))


def test_each_key_is_a_secret_of_its_own() -> None:
    old, new = make_key("old"), make_key("new")
    known = set(secrets_of(_settings(f"{new},{old}", "")))
    assert {new.partition("=")[2], old.partition("=")[2]} <= known


def test_keys_of_one_day_have_different_names_and_their_ids_can_be_told() -> None:
    first, second = make_key(), make_key()
    ring = read_key_ring(_settings(f"{first} {second}", make_key("index")))
    told = name_ids(_settings(f"{first} {second}", ""))
    assert list(told) == [first.partition("=")[0], second.partition("=")[0]]
    assert list(told.values()) == [each.hex() for each in ring.ids]
