"""Passwords as scrypt hashes: `python -m dash_app.access.passwords` makes one.

A hash carries its own parameters, so that they can grow without anybody choosing a new password.
"""

import argparse
import asyncio
import base64
import binascii
import getpass
import hashlib
import hmac
import os
import re
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

from schemas.errors import SettingError

SHORTEST_PASSWORD = 12
CHECKS_AT_A_TIME = 2
# One of the settings that OWASP's cheat sheet on password storage holds for equal: 32 MiB a check.
LOG_N, BLOCK_SIZE, PARALLEL = 15, 8, 3
_SALT_BYTES, _KEY_BYTES = 16, 32
# Weaker than the first would be guessed too fast, dearer than the second would be a way to
# exhaust this machine.
_LEAST_LOG_N, _MOST_LOG_N, _MOST_PARALLEL = 14, 17, 10
# No $ in it: shells and compose files would take it for a variable.
_FORM = re.compile(r"scrypt:(\d{2}):8:(\d{1,2}):([\w-]{22}):([\w-]{43})", re.ASCII)


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """What is known of a password."""

    log_n: int
    parallel: int
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, password: str) -> Self:
        """Return the hash of a password, under a salt of its own; takes a quarter of a second."""
        salt = os.urandom(_SALT_BYTES)
        return cls(LOG_N, PARALLEL, salt, derive(password, salt, LOG_N, PARALLEL))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the hash that was written as text; raises ValueError where it is none of ours."""
        found = _FORM.fullmatch(text)
        if not found:
            raise ValueError("no hash")
        log_n, parallel = int(found[1]), int(found[2])
        if not (_LEAST_LOG_N <= log_n <= _MOST_LOG_N and 1 <= parallel <= _MOST_PARALLEL):
            raise ValueError("parameters out of bounds")
        return cls(log_n, parallel, _decode(found[3]), _decode(found[4]))

    def dummy(self) -> "PasswordHash":
        """Return a hash that no password has, and that takes as long to find that out."""
        return PasswordHash(
            self.log_n, self.parallel, os.urandom(_SALT_BYTES), os.urandom(_KEY_BYTES)
        )

    @property
    def text(self) -> str:
        """The hash as a setting."""
        salt, key = _encode(self.salt), _encode(self.key)
        return f"scrypt:{self.log_n}:{BLOCK_SIZE}:{self.parallel}:{salt}:{key}"

    def fits(self, password: str) -> bool:
        """Return whether it is the hash of this password, in a time that does not say how nearly.

        Blocks for as long as the parameters make it.
        """
        found = derive(password, self.salt, self.log_n, self.parallel)
        return hmac.compare_digest(found, self.key)


class PasswordChecks:
    """Checks passwords beside the event loop, a few at a time: each takes a core and 32 MiB."""

    def __init__(self) -> None:
        """Start no thread yet."""
        self._threads = ThreadPoolExecutor(CHECKS_AT_A_TIME, thread_name_prefix="password")

    async def fits(self, known: PasswordHash, password: str) -> bool:
        """Return whether the hash is the password's."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, known.fits, password)


def derive(password: str, salt: bytes, log_n: int, parallel: int) -> bytes:
    """Return scrypt's key of a password."""
    # The same letters can come as different code points from different keyboards.
    text = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
    n = 1 << log_n
    memory = 128 * BLOCK_SIZE * (n + parallel + 2)
    return hashlib.scrypt(
        text, salt=salt, n=n, r=BLOCK_SIZE, p=parallel, maxmem=memory, dklen=_KEY_BYTES
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error


def main() -> None:
    """Print the hash of a password that is asked for twice, or is the one line of a pipe."""
    parser = argparse.ArgumentParser(
        prog="python -m dash_app.access.passwords",
        description="Prints the hash of a password, as SLUICEWAY_DASHBOARD_USERS takes it. "
        "It is asked for twice, or read as one line from a pipe.",
    )
    parser.parse_args()
    try:
        password = _ask() if sys.stdin.isatty() else _read_line()
    except SettingError as error:
        sys.exit(str(error))
    except (KeyboardInterrupt, EOFError):
        sys.exit("No password was given.")
    sys.stdout.write(f"{PasswordHash.of(password).text}\n")


def _ask() -> str:
    password = _check(getpass.getpass("Password: "))
    if getpass.getpass("Once more: ") != password:
        raise SettingError("The two passwords differ: begin again.")
    return password


def _read_line() -> str:
    return _check(sys.stdin.readline().rstrip("\r\n"))


def _check(password: str) -> str:
    if len(password) < SHORTEST_PASSWORD:
        raise SettingError(
            f"The password is too short: choose one of at least {SHORTEST_PASSWORD} characters."
        )
    return password


if __name__ == "__main__":
    main()
