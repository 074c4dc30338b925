"""A progress bar on the terminal for the bytes a run reads; silent where there is no terminal."""

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from tasks.load import Progress as OnProgress


class ByteProgress:
    """One bar a file, while it is being read."""

    def __init__(self) -> None:
        """Draw nothing yet."""
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()

    def follow(self, path: Path) -> OnProgress:
        """Return what a load of that file reports its reading to."""
        try:
            size_bytes = path.stat().st_size
        except OSError:
            size_bytes = 0  # it is gone meanwhile: loading it will say so
        bar: TaskID = self._bars.add_task(path.name, total=size_bytes or None)

        def advance(read_bytes: int) -> None:
            self._bars.update(bar, completed=read_bytes)
            if size_bytes and read_bytes >= size_bytes:
                self._bars.update(bar, visible=False)

        return advance
