"""`python -m infra.local.kafka_jars`: Apache Kafka's jars, copied by Maven into the checkout."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from schemas.errors import TerminalError

CHECKOUT = Path(__file__).absolute().parents[2]
POM = CHECKOUT / "infra" / "kafka" / "pom.xml"
STORE = CHECKOUT / ".kafka"
INTERRUPTED = 130


def jars_folder(store: Path = STORE) -> Path:
    """Return where the jars of this pom belong: a changed pom has a folder of its own."""
    text = POM.read_bytes()
    version = re.search(rb"<kafka\.version>(.*?)</kafka\.version>", text)
    name = version[1].decode() if version else "unknown"
    return store / f"{name}-{hashlib.sha256(text).hexdigest()[:8]}"


def find_jars(store: Path = STORE) -> Path:
    """Return the folder of the jars; raises TerminalError where they have not been fetched."""
    folder = jars_folder(store)
    if not folder.is_dir():
        raise TerminalError("Apache Kafka's jars are not here: run `make kafka`.")
    return folder


def fetch_jars(store: Path = STORE) -> Path:
    """Leave the jars of this pom in their folder, wholly or not at all, and those of no other.

    Raises TerminalError where Maven is missing, or cannot get them.
    """
    folder = jars_folder(store)
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise TerminalError(
            "There is no `mvn` to fetch Apache Kafka with: install Maven (on Debian: "
            "`make system-packages`)."
        )
    _say(f"Fetching Apache Kafka into {folder.parent.name}/{folder.name} (45 MB, once) …")
    draft = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    _run_maven(maven, draft)
    for old in store.iterdir():
        if old != draft:
            shutil.rmtree(old)
    draft.rename(folder)  # a folder of the final name is always whole
    return folder


def _run_maven(maven: str, target: Path) -> None:
    done = subprocess.run(  # noqa: S603 - Maven, with arguments composed here
        [
            maven,
            *("--batch-mode", "--quiet", "--file", str(POM)),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={target}",
            "-DincludeScope=runtime",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode or not list(target.glob("kafka_*.jar")):
        said = re.search(r"\[ERROR\] (.+)", done.stdout)
        raise TerminalError(
            "Maven could not fetch Apache Kafka; is a repository of Maven's reachable? It said: "
            f"{said[1] if said else done.stdout.strip()}"
        )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Return 0 once the jars are there."""
    try:
        folder = fetch_jars()
    except TerminalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the next `make kafka` begins again.\n")
        return INTERRUPTED
    _say(f"Apache Kafka {folder.name.partition('-')[0]} is in {folder.parent.name}/{folder.name}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
