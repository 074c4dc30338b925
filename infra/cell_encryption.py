"""Personal cells under AES-256-GCM, and the keyed index they are found by.

A cell is `1 | key id | nonce | ciphertext | tag`: 1 byte, 4, 12, as long as the text in UTF-8, and
16. Table and column are authenticated with it, so that a cell that is copied into another column
cannot be read there. The nonce is random: equal texts are not equal cells. With random nonces a key
is good for some 2^32 cells (NIST SP 800-38D, 8.3): rotate it before.

The index is HMAC-SHA256 of the text, cut to 16 bytes, under a key of the column's own: the
HMAC-SHA256 of table and column under the index's key. It is equal for equal texts of a column, and
nothing to whoever lacks the key. Polars works it out for a whole column at once.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import add

import numpy as np
import polars as pl
import polars_hash as plh
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.errors import SettingError, TerminalError

KEY_BYTES = 32
INDEX_BYTES = 16
_VERSION = b"\x01"
_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = 1 + _ID_BYTES
_BODY = _HEAD_BYTES + _NONCE_BYTES
CELL_OVERHEAD_BYTES = _BODY + _TAG_BYTES
"""What a cell has more than its text."""


class CellError(TerminalError):
    """A cell cannot be read: its key is missing, or it is not what was written there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cell stands, as it is authenticated with it."""

    table: str
    column: str

    @property
    def data(self) -> bytes:
        """Both names, so that no other pair gives the same bytes."""
        return f"{self.table}\0{self.column}\0".encode()

    def __str__(self) -> str:
        """Name it for a person."""
        return f"{self.table}.{self.column}"


class KeyRing:
    """The keys of cells by their id, the one that new cells get, and the index's key."""

    def __init__(self, keys: Sequence[bytes], index_keys: Sequence[bytes]) -> None:
        """Take the keys, each of 32 bytes; raises SettingError where they make no ring.

        keys: the first writes, the others are still read. index_keys: the first writes the index,
        and all of them find.
        """
        if not keys or not index_keys:
            raise SettingError("A key ring needs a key of cells and a key of the index.")
        if wrong := [len(each) for each in (*keys, *index_keys) if len(each) != KEY_BYTES]:
            raise SettingError(f"An encryption key has {wrong[0]} bytes, not {KEY_BYTES}.")
        if len({*keys, *index_keys}) != len(keys) + len(index_keys):
            raise SettingError("Two encryption keys are the same: each has to be one of its own.")
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self.current_id = key_id(keys[0])
        """4 bytes: the id in every cell that is written."""
        self._index_keys = tuple(index_keys)

    @property
    def ids(self) -> list[bytes]:
        """The ids (4 bytes) of the keys that cells can be read with."""
        return list(self._ciphers)

    def encrypt(self, texts: pl.Series, place: Place) -> pl.Series:
        """Return cells (Binary) of texts (String); null stays null."""
        present = texts.drop_nulls()
        head = _VERSION + self.current_id
        # One draw for all: a system call for each would take longer than the cipher.
        nonces = np.frombuffer(os.urandom(_NONCE_BYTES * len(present)), dtype=np.uint8)
        nonces = nonces.reshape(-1, _NONCE_BYTES)
        begun = np.empty((len(present), _BODY), dtype=np.uint8)
        begun[:, :_HEAD_BYTES] = np.frombuffer(head, dtype=np.uint8)
        begun[:, _HEAD_BYTES:] = nonces
        # Without a line of Python for each cell, which would take a third of the time.
        sealed = map(
            self._ciphers[self.current_id].encrypt,
            _rows(nonces),
            present.cast(pl.Binary).to_list(),
            repeat(head + place.data),
        )
        cells = pl.Series(texts.name, list(map(add, _rows(begun), sealed)), dtype=pl.Binary)
        if len(present) == len(texts):
            return cells
        every = pl.repeat(None, len(texts), dtype=pl.Binary, eager=True).alias(texts.name)
        return every.scatter(texts.is_not_null().arg_true(), cells)

    def decrypt(self, cells: pl.Series, place: Place) -> pl.Series:
        """Return the texts (String) of cells (Binary); raises CellError at the first unreadable."""
        data = place.data
        texts = [None if cell is None else self._open(cell, data, place) for cell in cells]
        return pl.Series(cells.name, texts, dtype=pl.Binary).cast(pl.String)

    def seal(self, data: bytes, place: Place) -> bytes:
        """Return a cell of these bytes."""
        head, nonce = _VERSION + self.current_id, os.urandom(_NONCE_BYTES)
        return head + nonce + self._ciphers[self.current_id].encrypt(nonce, data, head + place.data)

    def open(self, cell: bytes, place: Place) -> bytes:
        """Return the bytes of a cell; raises CellError where it cannot be read."""
        return self._open(cell, place.data, place)

    def find_by(self, text: str, place: Place) -> list[bytes]:
        """Return what a cell with that text may be found by: an index (16 bytes) for each key."""
        return [
            hmac.digest(_column_key(key, place).encode(), text.encode(), "sha256")[:INDEX_BYTES]
            for key in self._index_keys
        ]

    def index(self, texts: pl.Series, place: Place) -> pl.Series:
        """Return what the texts (String) are found by (Binary, 16 bytes); null stays null."""
        digits = (
            plh.col("text")
            .chash.hmac_sha256(key=_column_key(self._index_keys[0], place))
            .str.head(2 * INDEX_BYTES)
        )
        index = texts.alias("text").to_frame().select(digits.str.decode("hex")).to_series()
        return index.alias(texts.name)

    def _open(self, cell: bytes, data: bytes, place: Place) -> bytes:
        head = cell[:_HEAD_BYTES]
        if len(cell) < CELL_OVERHEAD_BYTES or head[:1] != _VERSION:
            raise CellError(f"A cell of {place} is not encrypted as this platform does it.")
        cipher = self._ciphers.get(head[1:])
        if cipher is None:
            raise CellError(
                f"A cell of {place} was written with a key that is not set (its id is "
                f"{head[1:].hex()}): set that key too until `rotate_keys` has run."
            )
        try:
            return cipher.decrypt(cell[_HEAD_BYTES:_BODY], cell[_BODY:], head + data)
        except InvalidTag:
            raise CellError(
                f"A cell of {place} is not what was written there: it was changed, or comes from "
                "another column."
            ) from None


def key_id(key: bytes) -> bytes:
    """Return the id (4 bytes) by which the cells of a key name it."""
    return hashlib.sha256(b"sluiceway cell key id" + key).digest()[:_ID_BYTES]


def _column_key(key: bytes, place: Place) -> str:
    """Return the column's own key: 64 hexadecimal digits, which are what HMAC is given."""
    return hmac.new(key, place.data, hashlib.sha256).hexdigest()


def _rows(table: np.ndarray) -> list[bytes]:
    """Return each row of bytes (two dimensions, without gaps) by itself."""
    return table.view(f"V{table.shape[1]}").ravel().tolist()
