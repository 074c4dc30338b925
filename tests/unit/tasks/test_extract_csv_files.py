"""The file around the text: compression, what is refused, and what changes while it is read."""

import datetime as dt
import gzip
import hashlib
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.errors import RefusedError, TransientError
from tasks.extract_csv import CsvFile

TEXT = "id,name\n" + "".join(f"{number},name {number}\n" for number in range(40_000))
BLOCK_BYTES = 1 << 16
NOISE = random.Random(7).randbytes(500_000)  # noqa: S311 - the same bytes in every run


def count(path: Path) -> int:
    file = CsvFile(path, block_bytes=BLOCK_BYTES)
    assert sum(block.cells.height for block in file) == file.records
    return file.records


def compress_zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    ("suffix", "pack", "compression"),
    [
        (".csv", bytes, None),
        (".tsv", bytes, None),
        (".csv.gz", gzip.compress, "gzip"),
        (".csv.zst", compress_zstd, "zstd"),
        # The name says one thing, the bytes another: the bytes are right.
        (".csv", gzip.compress, "gzip"),
        (".csv.gz", bytes, None),
    ],
)
def test_the_digest_size_and_time_are_those_of_the_file_on_disk(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes], compression: str | None
) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(pack(TEXT.encode()))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    file = CsvFile(path, block_bytes=BLOCK_BYTES)
    assert file.compression == compression
    with pytest.raises(RuntimeError, match="not read to its end"):
        _ = file.sha256
    assert sum(block.cells.height for block in file) == 40_000
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file.size_bytes == path.stat().st_size
    assert file.modified_at == dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC)


@pytest.mark.parametrize("pack", [gzip.compress, compress_zstd])
def test_members_written_one_after_the_other_are_one_text(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "t.csv.gz"
    middle = len(TEXT) // 2
    path.write_bytes(pack(TEXT[:middle].encode()) + pack(TEXT[middle:].encode()))
    assert count(path) == 40_000


@pytest.mark.parametrize("pack", [gzip.compress, compress_zstd])
@pytest.mark.parametrize("lost", [1, 7, 1000])
def test_a_truncated_archive_is_refused(
    tmp_path: Path, pack: Callable[[bytes], bytes], lost: int
) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(pack(TEXT.encode())[:-lost])
    with pytest.raises(RefusedError, match=r"t\.csv\.gz cannot be decompressed: .* too early"):
        count(path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    packed = bytearray(gzip.compress(TEXT.encode()))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(RefusedError, match="is damaged or ends too early"):
        count(path)


def make_nothing(_path: Path) -> None:
    pass


def make_folder(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("t.csv", TEXT)


def make(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (make_nothing, "does not exist; check"),
        (make_folder, "is a folder, not a file"),
        (make_pipe, "is no regular file"),
        (make_zip, "is a zip archive or an Excel workbook, no CSV text"),
        (make(b""), r"is empty \(0 bytes\)"),
        (make(b"\n\r\n\n"), "holds blank lines only"),
        (make(b"\xef\xbb\xbf"), "holds blank lines only"),
        (make(gzip.compress(b"")), "holds blank lines only"),
        (make(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "is a PNG image"),
        (make(gzip.compress(gzip.compress(b"a,b\n"))), "is a gzip archive inside another"),
        (make(NOISE[:100_000]), "is a binary file, no CSV text"),
        (make(bytes(100_000)), "is a binary file, no CSV text"),
    ],
)
def test_what_is_no_csv_file_is_refused_with_a_sentence(
    tmp_path: Path, prepare: Callable[[Path], None], sentence: str
) -> None:
    path = tmp_path / "t.csv"
    prepare(path)
    with pytest.raises(RefusedError, match=rf"t\.csv {sentence}.*\.$"):
        count(path)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop root's rights, which no permission stops."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_without_read_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TEXT)
    path.chmod(0)
    with as_nobody(), pytest.raises(RefusedError, match="may not be read by this user"):
        count(path)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"x" * (80 << 20), compresslevel=1))
    with pytest.raises(RefusedError, match="has a line of more than 64 MB"):
        count(path)


def grow(path: Path) -> None:
    with path.open("a") as file:
        file.write("1,more\n")


def shrink(path: Path) -> None:
    os.truncate(path, 300_000)


def rewrite(path: Path) -> None:
    path.write_text(TEXT.replace("name 39999", "name 39998"))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_text(TEXT)
    other.replace(path)


@pytest.mark.parametrize("change", [grow, shrink, rewrite, replace, Path.unlink])
def test_a_file_that_changes_while_it_is_read_is_a_transient_error(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TEXT)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    blocks = iter(CsvFile(path, block_bytes=BLOCK_BYTES))
    next(blocks)
    change(path)
    with pytest.raises(TransientError, match=r"t\.csv changed while it was being read \(.*\)"):
        list(blocks)


def test_an_archive_cut_short_while_it_is_read_is_a_transient_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"id\n" + NOISE.hex("\n").encode()))
    blocks = iter(CsvFile(path, block_bytes=BLOCK_BYTES))
    next(blocks)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(TransientError, match="changed while it was being read"):
        list(blocks)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_disk_that_fails_is_a_transient_error(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(pack(b"id\n" + NOISE.hex("\n").encode()))
    blocks = iter(CsvFile(path, block_bytes=BLOCK_BYTES))
    next(blocks)
    # A folder in the file's place: every further read of it fails.
    folder = os.open(tmp_path, os.O_RDONLY)
    for held in Path("/proc/self/fd").iterdir():
        if held.resolve() == path:
            os.dup2(folder, int(held.name))
    os.close(folder)
    with pytest.raises(TransientError, match=r"could not be read \(.*directory\); try again"):
        list(blocks)


def test_leaving_early_closes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TEXT)
    with CsvFile(path, block_bytes=BLOCK_BYTES) as file:
        assert file.header == ("id", "name")
        next(iter(file))
    held = [each.resolve() for each in Path("/proc/self/fd").iterdir()]
    assert path not in held


def test_a_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TEXT)
    file = CsvFile(path)
    assert sum(block.cells.height for block in file) == 40_000
    with pytest.raises(RuntimeError, match="was read already"):
        list(file)
