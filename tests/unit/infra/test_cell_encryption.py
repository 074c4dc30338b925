"""Encrypted cells: read where they were written, found by their text, and by nothing else."""

import hashlib
import hmac

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cell_encryption import CellError, KeyRing, Place
from schemas.errors import SettingError

OLD, NEW, INDEX = (bytes([number]) * 32 for number in (1, 2, 3))
RING = KeyRing([NEW, OLD], [INDEX])
EMAIL = Place("customers", "email")
TEXTS = pl.Series("email", ["ann@example.com", None, "", "ann@example.com", "Zoë 🦆"])


def test_cells_come_back_and_show_nothing() -> None:
    cells = RING.encrypt(TEXTS, EMAIL)
    assert cells.dtype == pl.Binary
    assert cells.name == "email"
    assert RING.decrypt(cells, EMAIL).to_list() == TEXTS.to_list()
    assert not any(b"example" in each for each in cells if each is not None)


@given(st.lists(st.none() | st.text(), max_size=20))
def test_any_text_comes_back(texts: list[str | None]) -> None:
    given_ = pl.Series("t", texts, dtype=pl.String)
    assert RING.decrypt(RING.encrypt(given_, EMAIL), EMAIL).to_list() == texts
    assert RING.encrypt(given_, EMAIL).is_null().to_list() == [each is None for each in texts]


def test_equal_texts_are_different_cells_and_the_same_index() -> None:
    cells, index = RING.encrypt(TEXTS, EMAIL), RING.index(TEXTS, EMAIL)
    assert cells[0] != cells[3]
    assert index[0] == index[3] != index[2]
    assert index[1] is None
    assert RING.index(TEXTS, Place("customers", "name"))[0] != index[0]
    assert RING.index(TEXTS, Place("customersemail", ""))[0] != index[0]


def test_the_index_is_the_hmac_that_everybody_else_works_out() -> None:
    for text in ("", "ann@example.com", "x" * 1000):
        of_column = hmac.new(INDEX, b"customers\0email\0", hashlib.sha256).hexdigest()
        wanted = hmac.new(of_column.encode(), text.encode(), hashlib.sha256).digest()
        assert RING.index(pl.Series([text]), EMAIL)[0] == wanted[:16]


def test_old_cells_are_read_while_their_key_is_there() -> None:
    before = KeyRing([OLD], [INDEX])
    cells = before.encrypt(TEXTS, EMAIL)
    assert RING.decrypt(cells, EMAIL).to_list() == TEXTS.to_list()
    after = KeyRing([NEW], [INDEX])
    with pytest.raises(CellError, match=r"customers\.email was written with a key that is not set"):
        after.decrypt(cells, EMAIL)


def test_a_cell_cannot_be_read_in_another_place_nor_with_any_byte_changed() -> None:
    [cell] = RING.encrypt(pl.Series(["ann@example.com"]), EMAIL)
    with pytest.raises(CellError, match="from another column"):
        RING.decrypt(pl.Series([cell]), Place("customers", "name"))
    for place in range(len(cell)):
        changed = bytearray(cell)
        changed[place] ^= 1
        with pytest.raises(CellError) as caught:
            RING.decrypt(pl.Series([bytes(changed)]), EMAIL)
        assert "ann" not in str(caught.value)
    for length in range(len(cell)):
        with pytest.raises(CellError):
            RING.decrypt(pl.Series([cell[:length]]), EMAIL)


@pytest.mark.parametrize(
    ("keys", "index_keys", "said"),
    [
        ([], [INDEX], "needs a key of cells"),
        ([NEW], [], "a key of the index"),
        ([NEW[:31]], [INDEX], "has 31 bytes"),
        ([NEW], [b""], "has 0 bytes"),
        ([NEW, NEW], [INDEX], "are the same"),
        ([INDEX], [INDEX], "are the same"),
    ],
)
def test_what_makes_no_ring_is_refused(
    keys: list[bytes], index_keys: list[bytes], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        KeyRing(keys, index_keys)


def test_bytes_are_sealed_like_cells() -> None:
    cell = RING.seal(b"\xffraw", EMAIL)
    assert RING.open(cell, EMAIL) == b"\xffraw"
    assert RING.decrypt(pl.Series([RING.seal(b"text", EMAIL)]), EMAIL).to_list() == ["text"]
    with pytest.raises(CellError, match="from another column"):
        RING.open(cell, Place("customers", "name"))


def test_a_text_is_found_by_the_index_of_any_key() -> None:
    other = bytes([4]) * 32
    both = KeyRing([NEW], [other, INDEX])
    assert both.find_by("ann@example.com", EMAIL) == [
        both.index(TEXTS, EMAIL)[0],
        RING.index(TEXTS, EMAIL)[0],
    ]
