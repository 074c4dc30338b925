"""As whom PostgreSQL's programs run: they refuse to run as root."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from schemas.errors import TerminalError

STAND_IN = "1000"
"""The user number root appears as inside the user namespace; on disk all stays root's."""
OTHERS_MAY_PASS = 0o001


@dataclass(frozen=True, slots=True)
class Identity:
    """How to start a program so that PostgreSQL does not see root."""

    prefix: tuple[str, ...] = ()
    user_id: int | None = None
    group_id: int | None = None

    def hand_over(self, path: Path) -> list[str]:
        """Make the file or folder the other user's, reachable through its parents.

        Returns a sentence for each parent that had to be opened; nothing happens without a user.
        """
        if self.user_id is None:
            return []
        for each in (path, *path.rglob("*")):
            if each.lstat().st_uid != self.user_id:
                os.chown(each, self.user_id, self.group_id or -1, follow_symlinks=False)
        return self.open_parents(path)

    def open_parents(self, path: Path) -> list[str]:
        """Let the other user pass through the folders above; return a sentence for each opened."""
        if self.user_id is None:
            return []
        opened = []
        for parent in path.absolute().parents:
            mode = parent.stat().st_mode
            if not mode & OTHERS_MAY_PASS:
                parent.chmod(mode | OTHERS_MAY_PASS)
                opened.append(
                    f"Opened {parent} to other users (o+x): PostgreSQL runs as 'nobody' here."
                )
        return opened


@lru_cache(maxsize=1)
def choose_identity() -> Identity:
    """Return this user, unless it is root: then root under another number, or else `nobody`."""
    if os.geteuid() != 0:
        return Identity()
    if _can_unshare():
        return Identity(prefix=_namespace())
    return become_nobody()


def become_nobody() -> Identity:
    """Return the unprivileged user that every Unix has."""
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise TerminalError(
            "PostgreSQL cannot run as root, and this machine has no user 'nobody': "
            "run this as an ordinary user."
        ) from None
    return Identity(user_id=nobody.pw_uid, group_id=nobody.pw_gid)


def _namespace() -> tuple[str, ...]:
    program = shutil.which("unshare") or "unshare"
    return (program, "--user", f"--map-user={STAND_IN}", f"--map-group={STAND_IN}", "--")


def _can_unshare() -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            [*_namespace(), "true"], capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
