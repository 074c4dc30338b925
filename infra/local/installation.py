"""`python -m infra.local.installation`: the virtual environment of this checkout, from the lock.

It runs before any package is there, so it imports nothing but the standard library.
"""

import re
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).absolute().parents[2]
VIRTUAL_ENVIRONMENT = CHECKOUT / ".venv"
STAMP = VIRTUAL_ENVIRONMENT / ".installed"
LOCK = CHECKOUT / "requirements.lock"
LOG = VIRTUAL_ENVIRONMENT / "installation.log"
INTERRUPTED = 130
LINES_ON_FAILURE = 5


class InstallationError(Exception):
    """The virtual environment could not be completed; the message says what to do."""


def install() -> None:
    """Leave a virtual environment with exactly the packages of the lock, compiled."""
    start_time = time.monotonic()
    say("Installing packages into .venv (this takes one to three minutes, once) …")
    make_virtual_environment()
    count = len(re.findall(r"^[\w.-]+==", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    done = 0
    for line in run_pip():
        if line.startswith("Collecting "):
            done += 1
            show_progress(f"  fetched {done} of at most {count}")
        elif line.startswith("Installing collected packages"):
            show_progress("  unpacking …")
    show_progress("  compiling …")
    compile_packages()
    STAMP.touch()
    show_progress("")
    say(f"  done in {time.monotonic() - start_time:.0f} s")


def make_virtual_environment() -> None:
    """Leave an environment of this Python; one of another version is made anew."""
    config = VIRTUAL_ENVIRONMENT / "pyvenv.cfg"
    version = ".".join(str(part) for part in sys.version_info[:3])
    is_ours = config.exists() and re.search(
        rf"^version\s*=\s*{re.escape(version)}$", config.read_text(encoding="utf-8"), re.MULTILINE
    )
    try:
        venv.EnvBuilder(with_pip=True, symlinks=True, clear=not is_ours).create(VIRTUAL_ENVIRONMENT)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InstallationError(
            f"The virtual environment {VIRTUAL_ENVIRONMENT} cannot be made ({error}): install "
            "Python's venv module (on Debian: python3-venv) and check that the folder is writable."
        ) from None


def run_pip() -> Iterator[str]:
    """Yield what pip says, line by line, and keep it in a log."""
    command = [
        str(VIRTUAL_ENVIRONMENT / "bin" / "python"),
        *("-m", "pip", "install", "--disable-pip-version-check", "--no-input"),
        # The lock is complete: resolving it again would only cost time.
        *("--progress-bar", "off", "--no-deps", "--no-compile", "--require-hashes"),
        *("-r", str(LOCK)),
    ]
    last: list[str] = []
    with (
        LOG.open("w", encoding="utf-8") as log,
        subprocess.Popen(  # noqa: S603 - pip, with arguments composed above
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=CHECKOUT
        ) as pip,
    ):
        try:
            for line in pip.stdout or ():
                log.write(line)
                last = [*last, line.strip()][-LINES_ON_FAILURE:]
                yield line
        except BaseException:
            pip.terminate()
            raise
    if pip.returncode:
        raise InstallationError(
            f"The packages of {LOCK.name} could not be installed; is the package index reachable? "
            f"pip said last:\n" + "\n".join(last) + f"\nAll of it is in {LOG}."
        )


def compile_packages() -> None:
    """Leave bytecode beside every module; without it, imports take twice as long."""
    # Some packages carry templates that are no valid Python; they are never imported.
    subprocess.run(  # noqa: S603 - this environment's own Python
        [
            str(VIRTUAL_ENVIRONMENT / "bin" / "python"),
            *("-m", "compileall", "-q", "-q", "-j", "0", str(VIRTUAL_ENVIRONMENT / "lib")),
        ],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def show_progress(text: str) -> None:
    """Overwrite the last line on a terminal; elsewhere say only where a new phase begins."""
    if sys.stdout.isatty():
        sys.stdout.write(f"\r\x1b[K{text}")
        sys.stdout.flush()
    elif text.endswith("…"):
        say(text)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Return 0 once the environment is complete."""
    try:
        install()
    except InstallationError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the next `make` goes on from here.\n")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
