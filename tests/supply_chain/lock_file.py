"""The packages a lock names, and which of this platform's parts need them."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).absolute().parents[2]
LOCK = CHECKOUT / "requirements.lock"
PROJECT = CHECKOUT / "pyproject.toml"

_CONTINUED = re.compile(r"\\\n\s*")
_HASH = re.compile(r"--hash=(\S+)")


class SupplyChainError(Exception):
    """What was asked cannot be told; the message says why, and what to do."""


@dataclass(frozen=True)
class Package:
    """One line of a lock."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def read_lock(path: Path = LOCK) -> list[Package]:
    """Return the lock's packages, in its order; raises SupplyChainError for any other line."""
    lines = _CONTINUED.sub(" ", path.read_text(encoding="utf-8")).splitlines()
    return [_read_line(each, path) for each in lines if each.strip()]


def _read_line(line: str, path: Path) -> Package:
    stated = _HASH.sub("", line).strip()
    found = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)(?: ; (.+))?", stated)
    if found is None:
        raise SupplyChainError(f"{path.name} has a line that pins no package: {stated!r}.")
    name, version, marker = found.groups()
    return Package(name, version, marker or "", tuple(_HASH.findall(line)))


def find_parts(project: Path = PROJECT) -> dict[str, str]:
    """Return for each package that is needed here which part needs it: platform, local or dev.

    Keys are canonical names. A package that several parts need stands with the first of them. What
    no part of this environment needs, such as another system's package, is not there.
    """
    stated = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    parts: dict[str, str] = {}
    for part, requirements in (
        ("platform", stated["dependencies"]),
        *stated["optional-dependencies"].items(),
    ):
        for name in _closure(requirements):
            parts.setdefault(name, part)
    return parts


def _closure(requirements: Iterable[str]) -> set[str]:
    """Return whatever the installed packages need, with the extras that are asked for."""
    seen: set[tuple[str, str]] = set()
    waiting = [pair for each in requirements for pair in _wanted(each, "")]
    while waiting:
        name, extra = pair = waiting.pop()
        if pair in seen:
            continue
        seen.add(pair)
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            raise SupplyChainError(
                f"The package {name} is not installed: run `make` for a fresh .venv."
            ) from None
        waiting += [found for each in needed for found in _wanted(each, extra)]
    return {name for name, _ in seen}


def _wanted(text: str, extra: str) -> Iterator[tuple[str, str]]:
    requirement = Requirement(text)
    if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
        name = canonicalize_name(requirement.name)
        yield from ((name, each) for each in ("", *sorted(requirement.extras)))
