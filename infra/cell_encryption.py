"""Personal cells under AES-256-GCM, and the keyed index they are found by.

A cell is `1 | key id | nonce | ciphertext | tag`: 1 byte, 4, 12, as long as the text in UTF-8, and
16. Table and column are authenticated with it, so that a cell that is copied into another column
cannot be read there. The nonce is random: equal texts are not equal cells. With random nonces a key
is good for some 2^32 cells (NIST SP 800-38D, 8.3): rotate it before.

The index is HMAC-SHA256 over table, column and text, cut to 16 bytes: equal for equal texts of a
column, and nothing to whoever lacks its key.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl
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
_BLOCK_BYTES = 64
"""Of SHA-256."""

_States: TypeAlias = "tuple[hashlib._Hash, hashlib._Hash]"  # noqa: SLF001 - its only name
"""SHA-256 with the inner, and with the outer padded key read."""


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
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self.current_id = _key_id(keys[0])
        """4 bytes: the id in every cell that is written."""
        self._hmac_states = [_hmac_states(key) for key in index_keys]

    @property
    def ids(self) -> list[bytes]:
        """The ids (4 bytes) of the keys that cells can be read with."""
        return list(self._ciphers)

    def encrypt(self, texts: pl.Series, place: Place) -> pl.Series:
        """Return cells (Binary) of texts (String); null stays null."""
        cells = texts.cast(pl.Binary).to_list()
        encrypt, head = self._ciphers[self.current_id].encrypt, _VERSION + self.current_id
        data = head + place.data
        # One draw for all: a system call for each would take longer than the cipher.
        drawn = os.urandom(_NONCE_BYTES * len(cells))
        nonces = [drawn[at : at + _NONCE_BYTES] for at in range(0, len(drawn), _NONCE_BYTES)]
        sealed = [
            None if cell is None else head + nonce + encrypt(nonce, cell, data)
            for cell, nonce in zip(cells, nonces, strict=True)
        ]
        return pl.Series(texts.name, sealed, dtype=pl.Binary)

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
        return [self._digest_of(place, states)(text.encode()) for states in self._hmac_states]

    def index(self, texts: pl.Series, place: Place) -> pl.Series:
        """Return what the texts (String) are found by (Binary, 16 bytes); null stays null."""
        cells = texts.cast(pl.Binary).to_list()
        digest = self._digest_of(place, self._hmac_states[0])
        known: dict[bytes | None, bytes | None] = {None: None}
        for cell in cells:
            if cell not in known:
                known[cell] = digest(cell)
        return pl.Series(texts.name, [known[cell] for cell in cells], dtype=pl.Binary)

    def _digest_of(self, place: Place, states: _States) -> Callable[[bytes], bytes]:
        """Return the HMAC of texts at that place: from a state that has read key and names."""
        inner_state, outer = states
        begun = inner_state.copy()
        begun.update(place.data)

        def digest(text: bytes) -> bytes:
            inner = begun.copy()
            inner.update(text)
            whole = outer.copy()
            whole.update(inner.digest())
            return whole.digest()[:INDEX_BYTES]

        return digest

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


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"sluiceway cell key id" + key).digest()[:_ID_BYTES]


def _hmac_states(key: bytes) -> _States:
    """Return SHA-256 with the inner and with the outer padded key read (RFC 2104).

    Copying such a state costs a third of a call of `hmac`; a test holds both to the same answers.
    """
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    inner = hashlib.sha256(bytes(each ^ 0x36 for each in padded))
    outer = hashlib.sha256(bytes(each ^ 0x5C for each in padded))
    return inner, outer
