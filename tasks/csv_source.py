"""The bytes of one file on disk: hashed as they are read, decompressed, and checked for change."""

import datetime as dt
import hashlib
import io
import os
import stat
from pathlib import Path

import pyarrow as pa

from schemas.errors import RefusedError, TransientError

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class SourceFile:
    """A file opened once, read once from start to end; every byte of it goes into the SHA-256.

    What compresses it is found in its first bytes, not in its name.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; raises RefusedError when it cannot be opened or is no file."""
        self.path = path
        self._raw = _HashedBytes(_open(path))
        self._before = os.fstat(self._raw.file.fileno())
        if not self._before.st_size:
            self.close()
            message = f"{path} is empty (0 bytes); export it again or remove it from the folder."
            raise RefusedError(message)
        magic = os.pread(self._raw.file.fileno(), 4, 0)
        self.compression: str | None = None
        if magic.startswith(GZIP_MAGIC):
            self.compression = "gzip"
        elif magic == ZSTD_MAGIC:
            self.compression = "zstd"
        self._stream: pa.NativeFile | _HashedBytes = self._raw
        if self.compression:
            self._stream = pa.CompressedInputStream(
                pa.PythonFile(self._raw, mode="r"), self.compression
            )

    @property
    def read_bytes(self) -> int:
        """How many bytes of the file on disk have been read so far."""
        return self._raw.count

    @property
    def size_bytes(self) -> int:
        """The size of the file on disk when it was opened."""
        return self._before.st_size

    @property
    def modified_at(self) -> dt.datetime:
        """When the file was last written, in UTC."""
        return dt.datetime.fromtimestamp(self._before.st_mtime, tz=dt.UTC)

    @property
    def sha256(self) -> str:
        """The digest of the bytes read so far, in hexadecimal."""
        return self._raw.digest.hexdigest()

    def read(self, size: int) -> bytes:
        """Return up to `size` decompressed bytes, none only at the end.

        Raises RefusedError for a damaged or truncated archive, TransientError when the file
        changed meanwhile or the disk failed.
        """
        try:
            return bytes(self._stream.read(size))
        except OSError as error:
            if self._raw.failure is not None:
                message = f"{self.path} could not be read ({self._raw.failure}); try again."
                raise TransientError(message) from error
            self.refuse_change()
            message = (
                f"{self.path} cannot be decompressed: its {self.compression} data is damaged or "
                f"ends too early, near byte {self.read_bytes:,} of {self.size_bytes:,}; "
                "copy or export it again."
            )
            raise RefusedError(message) from error

    def read_all(self) -> bytes:
        """Return every byte that is left."""
        return b"".join(iter(lambda: self.read(1 << 22), b""))

    def finish(self) -> None:
        """Leave every byte hashed and the file proven unchanged; raises TransientError if not."""
        while self._raw.read(1 << 20):
            pass
        if self._raw.failure is not None:
            message = f"{self.path} could not be read ({self._raw.failure}); try again."
            raise TransientError(message)
        self.refuse_change()
        if self.read_bytes != self.size_bytes:
            raise self._change("its size changed")

    def refuse_change(self) -> None:
        """Raise TransientError if the file is not the one that was opened, byte for byte."""
        try:
            named = self.path.stat()
        except FileNotFoundError:
            raise self._change("it is gone") from None
        except OSError as error:
            raise self._change(f"it is out of reach: {error.strerror}") from error
        held = os.fstat(self._raw.file.fileno())
        before = self._before
        if (named.st_dev, named.st_ino) != (before.st_dev, before.st_ino):
            raise self._change("another file took its place")
        if held.st_size != before.st_size:
            raise self._change(
                f"it had {before.st_size:,} bytes and now has {held.st_size:,}",
            )
        if held.st_mtime_ns != before.st_mtime_ns:
            raise self._change("it was written to")

    def close(self) -> None:
        """Close the file; harmless when closed already."""
        self._raw.file.close()

    def _change(self, what: str) -> TransientError:
        return TransientError(
            f"{self.path} changed while it was being read ({what}); nothing of it was kept, "
            "load it again once it is complete."
        )


class _HashedBytes(io.RawIOBase):
    """What pyarrow reads from: counts and hashes on the way, and keeps what the disk said."""

    def __init__(self, file: io.FileIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.count = 0
        self.failure: OSError | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            chunk = self.file.read(size) or b""
        except OSError as error:
            self.failure = error
            raise
        self.digest.update(chunk)
        self.count += len(chunk)
        return chunk


def _open(path: Path) -> io.FileIO:
    try:
        # Opening a pipe would wait for its writer: look first.
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            message = f"{path} is a folder, not a file; rename it or move it away."
            raise RefusedError(message)
        if not stat.S_ISREG(kind):
            message = f"{path} is no regular file; only files can be loaded."
            raise RefusedError(message)
        return io.FileIO(path)
    except FileNotFoundError:
        message = f"{path} does not exist; check the folder and the name."
        raise RefusedError(message) from None
    except PermissionError:
        message = f"{path} may not be read by this user; give it read permission."
        raise RefusedError(message) from None
    except OSError as error:
        message = f"{path} could not be opened ({error.strerror}); try again."
        raise TransientError(message) from error
