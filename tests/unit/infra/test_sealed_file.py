"""Sealed files: what was written comes back, and nothing else ever does."""

import base64
from collections.abc import Iterable
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import sealed_file
from infra.sealed_file import CHUNK_BYTES, SealedError, make_key, read_key, seal, unseal
from schemas.errors import SettingError

KEY = read_key(make_key(), "KEY")
CHUNK = 16
SEALED_CHUNK = CHUNK + 16


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "CHUNK_BYTES", CHUNK)


def sealed(plain: Iterable[bytes]) -> bytes:
    sink = BytesIO()
    seal(plain, sink, KEY)
    return sink.getvalue()


def opened(content: bytes, key: bytes = KEY) -> bytes:
    return b"".join(unseal(BytesIO(content), key, "f"))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 << 20])
def test_what_was_written_comes_back(size: int) -> None:
    plain = (b"0123456789" * (size // 10 + 1))[:size]
    content = sealed([plain[:7], plain[7:]])
    assert opened(content) == plain
    # One byte alone may stand anywhere by chance.
    assert size < 64 or plain[:64] not in content


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_however_it_is_handed_over(pieces: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_file, "CHUNK_BYTES", CHUNK)
        assert opened(sealed(pieces)) == b"".join(pieces)


def test_no_two_files_are_alike() -> None:
    assert sealed([b"same"])[-20:] != sealed([b"same"])[-20:]


@pytest.mark.usefixtures("small_chunks")
def test_every_changed_byte_is_found() -> None:
    content = sealed([b"x" * (3 * CHUNK)])
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(SealedError):
            opened(bytes(changed))


@pytest.mark.usefixtures("small_chunks")
def test_every_cut_is_found() -> None:
    content = sealed([b"x" * (3 * CHUNK)])
    for length in range(len(content)):
        with pytest.raises(SealedError):
            opened(content[:length])


@pytest.mark.usefixtures("small_chunks")
def test_chunks_cannot_be_moved_dropped_repeated_or_taken_from_another_file() -> None:
    def split(content: bytes) -> tuple[bytes, list[bytes]]:
        head, rest = content[: -3 * SEALED_CHUNK], content[-3 * SEALED_CHUNK :]
        return head, [rest[at : at + SEALED_CHUNK] for at in range(0, len(rest), SEALED_CHUNK)]

    head, (first, second, last) = split(sealed([b"a" * CHUNK, b"b" * CHUNK, b"c" * CHUNK]))
    _, (other, *_) = split(sealed([b"d" * CHUNK * 3]))
    assert opened(head + first + second + last)
    for chunks in (
        (second, first, last),
        (first, last),
        (first, first, second, last),
        (other, second, last),
        (first, second, last, last),
    ):
        with pytest.raises(SealedError, match="not what was written"):
            opened(head + b"".join(chunks))


def test_another_key_and_another_kind_of_file_are_said() -> None:
    with pytest.raises(SealedError, match="sealed with another key"):
        opened(sealed([b"x"]), read_key(make_key(), "KEY"))
    with pytest.raises(SealedError, match="no sealed file"):
        opened(b"PGDMP rubbish of some length, which is no sealed file")


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(b"x" * 31).decode(), "*" * 44])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="THE_KEY is no key"):
        read_key(text, "THE_KEY")
