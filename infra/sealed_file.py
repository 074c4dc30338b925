"""Files under AES-256-GCM, written and read in chunks: whoever changes, cuts or mixes one is found.

    magic line | key id, 8 bytes | prefix, 7 random bytes | chunk | chunk | …

A chunk is at most 1 MiB of plain text with its tag of 16 bytes. Its nonce is the prefix, its number
(4 bytes) and 1 if it is the last one (1 byte), as in the STREAM construction (Hoang, Reyhanitabar,
Rogaway and Vizár, 2015): no chunk can be dropped, repeated or moved, and the end cannot be cut off.
The head is authenticated with each chunk.
"""

import base64
import binascii
import hashlib
import os
import secrets
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.errors import SettingError, TerminalError

MAGIC = b"sluiceway sealed 1\n"
CHUNK_BYTES = 1 << 20
KEY_BYTES = 32
_ID_BYTES = 8
_PREFIX_BYTES = 7
_TAG_BYTES = 16
_HEAD_BYTES = len(MAGIC) + _ID_BYTES + _PREFIX_BYTES


class SealedError(TerminalError):
    """A sealed file is not what was written, or is of another key."""


def make_key() -> str:
    """Return a new key, as the settings take it: 32 random bytes in base64."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def read_key(text: str, name: str) -> bytes:
    """Return the key's bytes; raises SettingError that names the setting where it is none."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingError(
            f"{name} is no key of {KEY_BYTES} bytes in base64: make one with "
            "`openssl rand -base64 32`, and keep it where the backups are not."
        )
    return key


def seal(plain: Iterable[bytes], sink: BinaryIO, key: bytes) -> int:
    """Write what `plain` yields to `sink`, sealed; returns how many plain bytes that were."""
    head = MAGIC + _key_id(key) + os.urandom(_PREFIX_BYTES)
    sink.write(head)
    cipher, number, total = AESGCM(key), 0, 0
    for chunk, is_last in _in_chunks(plain):
        sink.write(cipher.encrypt(_nonce(head, number, is_last=is_last), chunk, head))
        number, total = number + 1, total + len(chunk)
    return total


def unseal(source: BinaryIO, key: bytes, name: str) -> Iterator[bytes]:
    """Yield the plain bytes, each chunk after its check.

    name: what the sentences call the file. Raises SealedError at the first chunk that is not as it
    was written, also where the end is missing: only after the last one all is known to be there.
    """
    head = source.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES or not head.startswith(MAGIC):
        raise SealedError(f"{name} is no sealed file: name one that `make backup` has written.")
    if head[len(MAGIC) : len(MAGIC) + _ID_BYTES] != _key_id(key):
        raise SealedError(f"{name} was sealed with another key: set the one it was sealed with.")
    cipher, number = AESGCM(key), 0
    chunk = source.read(CHUNK_BYTES + _TAG_BYTES)
    while True:
        following = source.read(CHUNK_BYTES + _TAG_BYTES)
        try:
            yield cipher.decrypt(_nonce(head, number, is_last=not following), chunk, head)
        except InvalidTag:
            raise SealedError(
                f"{name} is not what was written: chunk {number + 1} was changed, or the end is "
                "missing. Take another copy of it."
            ) from None
        if not following:
            return
        chunk, number = following, number + 1


def _nonce(head: bytes, number: int, *, is_last: bool) -> bytes:
    return head[-_PREFIX_BYTES:] + struct.pack(">IB", number, is_last)


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"sluiceway key id" + key).digest()[:_ID_BYTES]


def _in_chunks(plain: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield full chunks and whether each is the last; an empty input is one empty chunk."""
    held = bytearray()
    for piece in plain:
        held += piece
        # One is kept back: only what follows it says that it was not the last.
        while len(held) > CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES]), False
            del held[:CHUNK_BYTES]
    yield bytes(held), True
