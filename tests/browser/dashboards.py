"""The dashboard as a process of its own, on loopback."""

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.local.environment import inherit_environment
from infra.local.ports import LOOPBACK, choose_port
from infra.local.process import Child, Launch, wait_until

CHECKOUT = Path(__file__).parents[2]
_START_SECONDS = 60.0


class Dashboard:
    """`python -m dash_app`, from the start of a `with` to its end."""

    module = "dash_app"
    """What is run; another may weaken it first."""

    def __init__(self, folder: Path, reader_url: str, **settings: str) -> None:
        """Describe it; settings: as infra.settings names them, beside the database."""
        self._folder = folder
        self._settings = {"reader_database_url": reader_url, **settings}
        self._port = choose_port()
        self._child: Child | None = None

    def __enter__(self) -> Self:
        """Return once it listens."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._settings |= {
            "dashboard_host": LOOPBACK,
            "dashboard_port": str(self._port),
            "log_folder": str(self._folder / "logs"),
        }
        given = {f"SLUICEWAY_{name.upper()}": value for name, value in self._settings.items()}
        self._child = child = Child(
            Launch(
                name="dashboard",
                command=[sys.executable, "-m", self.module],
                environment=inherit_environment(str(self._folder))
                | {"PYTHONPATH": str(CHECKOUT)}
                | given,
                log=self._folder / "dashboard.log",
                # No .env and no settings file of the checkout: a test sets what it needs.
                working_folder=self._folder,
            )
        )
        wait_until(lambda: child.listens_on(self._port) or not child.is_running, _START_SECONDS)
        assert child.is_running, child.explain_end()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        if self._child is not None:
            self._child.stop()

    @property
    def address(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://{LOOPBACK}:{self._port}"
