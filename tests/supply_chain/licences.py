"""`python -m tests.supply_chain.licences`: writes docs/licences.md from what is installed.

A licence is taken from the installed package's own metadata, as an SPDX expression. Where that says
nothing, or less than which licence it is, `BY_HAND` says it, with where a person has read it.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name

from tests.supply_chain.lock_file import CHECKOUT, Package, find_parts, read_lock

PAGE = CHECKOUT / "docs" / "licences.md"

ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "Artistic-1.0-Perl",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "PSF-2.0",
        "Zlib",
    }
)
"""Free to use in a service and in a product, changed files of MPL-2.0 packages excepted."""

_SPELLINGS = {
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
}
_CLASSIFIERS = {
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""Those that name one licence: `BSD License` does not."""


@dataclass(frozen=True)
class Reading:
    """A licence that a person has read, in this version of the package, and where."""

    version: str
    licence: str
    source: str
    part: str = ""
    """Of a package that is not installed on Linux with Python 3.11."""


_ITS_FILE = "the licence file in its distribution"
BY_HAND = {
    "axe-playwright-python": Reading("0.1.8", "MIT", _ITS_FILE),
    "colorama": Reading("0.4.6", "BSD-3-Clause", _ITS_FILE),
    "comm": Reading("0.2.3", "BSD-3-Clause", _ITS_FILE),
    "cronsim": Reading("2.8", "BSD-3-Clause", _ITS_FILE),
    "itsdangerous": Reading("2.2.0", "BSD-3-Clause", _ITS_FILE),
    "jinja2": Reading("3.1.6", "BSD-3-Clause", _ITS_FILE),
    "jinja2-humanize-extension": Reading("0.4.0", "BSD-3-Clause", _ITS_FILE),
    "nest-asyncio": Reading("1.6.0", "BSD-2-Clause", _ITS_FILE),
    "polars-hash": Reading("0.9.3", "MIT", "LICENSE in its repository; its wheel states none"),
    "python-dateutil": Reading("2.9.0.post0", "Apache-2.0 OR BSD-3-Clause", _ITS_FILE),
    "pywin32": Reading("312", "PSF-2.0", "its wheel's metadata; it is for Windows", "platform"),
    "text-unidecode": Reading("1.3", "Artistic-1.0-Perl OR GPL-2.0-or-later", _ITS_FILE),
    "uvloop": Reading("0.23.0", "MIT OR Apache-2.0", "both licence files in its distribution"),
    "whenever": Reading("0.10.5", "MIT", "its wheel's metadata; for Python 3.13", "platform"),
}

_PAGE = """\
# Licences

Sluiceway is under [Apache-2.0](../LICENSE). The packages that `requirements.lock` names are under
the licences below. `make licences` writes this page from what is installed. A test holds it fresh,
and refuses any licence but these, one of which has to be among those that a package offers:
{allowed}.

`platform` is what the platform runs on, `local` what `make demo` needs besides, `dev` what tests
and checks need. What a binary package contains of other projects is told by its own notices.

| package | version | needed by | licence |
|---|---|---|---|
{rows}

## Read by a person

The metadata of these name no licence, or not one alone, or they are not installed on Linux with
Python 3.11.

| package | licence | read in |
|---|---|---|
{read}
"""


@dataclass(frozen=True)
class Line:
    """What the page tells of one package."""

    name: str
    versions: str
    part: str
    licence: str
    source: str = ""


def find_lines() -> list[Line]:
    """Return a line for each package of the lock, sorted by name."""
    parts = find_parts()
    by_name: dict[str, list[Package]] = {}
    for each in read_lock():
        by_name.setdefault(canonicalize_name(each.name), []).append(each)
    return [
        _tell(name, ", ".join(each.version for each in found), parts.get(name, ""))
        for name, found in sorted(by_name.items())
    ]


def _tell(name: str, versions: str, part: str) -> Line:
    reading = BY_HAND.get(name)
    if reading is None:
        return Line(name, versions, part, find_stated_licence(name))
    if reading.version != versions:
        return Line(name, versions, part, "", f"read for {reading.version} only: read it again")
    return Line(name, versions, part or reading.part, reading.licence, reading.source)


def find_stated_licence(name: str) -> str:
    """Return the SPDX expression that the package's metadata comes to, or nothing."""
    try:
        stated = metadata(name)
    except PackageNotFoundError:
        return ""
    if "License-Expression" in stated:
        return canonicalize_license_expression(stated["License-Expression"])
    if "License" in stated:
        spelled = stated["License"]
        try:
            return canonicalize_license_expression(_SPELLINGS.get(spelled, spelled))
        except InvalidLicenseExpression:
            pass  # a text, or a word that is no licence: the classifiers may name it
    named = {
        each.rpartition(" :: ")[2]
        for each in stated.get_all("Classifier") or []
        if each.startswith("License :: OSI Approved ::")
    }
    return _CLASSIFIERS.get(named.pop(), "") if len(named) == 1 else ""


def is_allowed(expression: str) -> bool:
    """Whether the expression leaves a choice of allowed licences only."""
    tokens = iter(re.findall(r"[()]|[^\s()]+", expression))
    return bool(expression) and _any_of(tokens)


def _any_of(tokens: Iterator[str]) -> bool:
    """Read up to the closing bracket: AND binds before OR, as SPDX has it."""
    found, every = False, True
    for token in tokens:
        if token == ")":
            break
        if token == "OR":
            found, every = found or every, True
        elif token != "AND":
            every = (_any_of(tokens) if token == "(" else token in ALLOWED) and every
    return found or every


def render(lines: list[Line]) -> str:
    """Return the page."""
    rows = (
        f"| {each.name} | {each.versions} | {each.part} | {each.licence or 'unknown'} |"
        for each in lines
    )
    read = (
        f"| {each.name} | {each.licence or 'unknown'} | {each.source} |"
        for each in lines
        if each.source
    )
    return _PAGE.format(
        allowed=", ".join(sorted(ALLOWED)), rows="\n".join(rows), read="\n".join(read)
    )


def main() -> int:
    """Write the page; return 1 where a licence is unknown or not allowed."""
    lines = find_lines()
    PAGE.write_text(render(lines), encoding="utf-8")
    refused = [each for each in lines if not is_allowed(each.licence)]
    for each in refused:
        sys.stderr.write(
            f"{each.name} {each.versions}: the licence {each.licence or 'is unknown'} "
            f"{each.source}\n"
        )
    sys.stdout.write(f"{PAGE.relative_to(CHECKOUT)}: {len(lines)} packages.\n")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
