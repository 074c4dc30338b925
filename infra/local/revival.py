"""Processes that are started again when they end, as systemd's `Restart=always` would."""

from collections.abc import Callable
from time import monotonic

from infra.local.process import Child, Launch

STABLE_SECONDS = 60.0
"""Who lived so long starts anew with the count of its ends."""
LONGEST_WAIT_SECONDS = 30.0
MOST_ENDS = 6
"""Who ends so often in a row will not come right by being started again."""


class Revival:
    """One process, and its successors: at once after the first end, later after each further."""

    def __init__(self, launch: Launch, clock: Callable[[], float] = monotonic) -> None:
        """Start it. Call this, and `tend`, from the main thread: it dies with its thread."""
        self._launch = launch
        self._clock = clock
        self._ends = 0
        self._due: float | None = None
        self.child = self._start()

    def tend(self) -> None:
        """Start it again where it has ended and it is time to.

        Raises TerminalError where it ends again and again: its log says why.
        """
        if self.child.is_running:
            return
        now = self._clock()
        if self._due is None:
            self._ends = 1 if now - self._started >= STABLE_SECONDS else self._ends + 1
            if self._ends >= MOST_ENDS:
                raise self.child.explain_end()
            wait_seconds = 0 if self._ends == 1 else 2.0 ** (self._ends - 1)
            self._due = now + min(LONGEST_WAIT_SECONDS, wait_seconds)
        if now >= self._due:
            # What it had started goes on, as a consumer does without its worker.
            self.child = self._start()

    def _start(self) -> Child:
        self._due = None
        self._started = self._clock()
        return Child(self._launch)
