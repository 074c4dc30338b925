"""The virtual environments of the tools we are compared with, apart from our own."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

CHECKOUT = Path(__file__).absolute().parents[2]
FOLDER = CHECKOUT / ".sluiceway" / "bench-venv"
LOCK = Path(__file__).with_name("requirements-peers.lock")
STREAM_FOLDER = CHECKOUT / ".sluiceway" / "bench-stream-venv"
STREAM_LOCK = Path(__file__).with_name("requirements-stream-peers.lock")


class PeerError(Exception):
    """The comparison cannot be made; the message says why."""


def make_environment(folder: Path = FOLDER, lock: Path = LOCK) -> Path:
    """Return the Python of an environment with exactly the packages of the lock, compiled."""
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    wanted = f"{sys.version}\n{hashlib.sha256(lock.read_bytes()).hexdigest()}\n"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    sys.stderr.write(f"Installing the packages of {lock.name} into {folder} …\n")
    venv.EnvBuilder(with_pip=True, symlinks=True, clear=True).create(folder)
    _run(
        [
            *(str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"),
            *("--quiet", "--no-deps", "--require-hashes", "--requirement", str(lock)),
        ],
        lock,
    )
    # Where Python may write no bytecode, every lane would pay for compiling its imports.
    subprocess.run(
        [str(python), "-m", "compileall", "-q", "-q", "-j", "0", str(folder / "lib")],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _run(command: list[str], lock: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(
            f"The packages of {lock.name} could not be installed; is the package index reachable? "
            f"pip said: {done.stderr.strip()[-500:]}"
        )
