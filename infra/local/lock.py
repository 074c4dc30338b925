"""The lock that lets one stack at a time live in a checkout."""

import fcntl
from pathlib import Path
from typing import IO


class Lock:
    """Held until released or until this process dies; no child inherits it."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is created when the lock is first taken, and stays."""
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        """Return whether the lock is this process's now."""
        file = self.path.open("a", encoding="utf-8")  # closed on exec: a child does not keep it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Let the next one have it."""
        if self._file is not None:
            self._file.close()
            self._file = None
