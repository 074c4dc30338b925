"""`python -m tests.supply_chain.audit`: looks for known vulnerabilities of the locked packages.

It asks an advisory service by pip-audit, so it is no part of CI, which has to say the same of the
same commit tomorrow. An audit that could not ask about every package is not one that found nothing.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.supply_chain.lock_file import LOCK, SupplyChainError
from tests.supply_chain.tools import make_tools

FOUND = 1
NOT_AUDITED = 2
DEADLINE_SECONDS = 600
SAID_CHARACTERS = 300
NAMES_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """A known vulnerability of a locked package."""

    package: str
    identity: str
    fixed_in: Sequence[str]

    def __str__(self) -> str:
        """Name it for a person."""
        remedy = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fix is known"
        return f"{self.package}: {self.identity}, {remedy}"


def audit(lock: Path, service: str) -> tuple[int, list[Finding]]:
    """Return how many packages were asked about and what is known of them.

    Raises SupplyChainError where the service could not be asked about each.
    """
    if not lock.is_file():
        raise SupplyChainError(f"There is no lock {lock}: name one that is there.")
    command = [
        *(str(make_tools()), "-m", "pip_audit", "--requirement", str(lock)),
        *("--disable-pip", "--require-hashes", "--vulnerability-service", service),
        *("--format", "json", "--desc", "off", "--progress-spinner", "off"),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise SupplyChainError(
            f"The advisory service '{service}' did not answer within {DEADLINE_SECONDS} s: "
            "nothing was audited."
        ) from None
    # It ends with 1 both where it found something and where it failed.
    if not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SupplyChainError(
            f"The advisory service '{service}' could not be asked: nothing was audited. "
            f"Is it reachable from here? pip-audit said: {last[-SAID_CHARACTERS:]}"
        )
    return read_answer(json.loads(done.stdout), service)


def read_answer(answer: dict[str, Any], service: str) -> tuple[int, list[Finding]]:
    """Return the count of packages and the findings that pip-audit's JSON tells of."""
    packages = answer["dependencies"]
    skipped = [each["name"] for each in packages if "skip_reason" in each]
    if skipped or not packages:
        raise SupplyChainError(
            f"The advisory service '{service}' knows nothing of {len(skipped)} of "
            f"{len(packages)} packages ({_shorten(skipped)}): these were not audited. "
            "A mirror of the package index may lack the advisories; ask another: --service osv."
        )
    return len(packages), [
        Finding(f"{each['name']} {each['version']}", known["id"], known["fix_versions"])
        for each in packages
        for known in each["vulns"]
    ]


def _shorten(names: Sequence[str]) -> str:
    return ", ".join([*names[:NAMES_SHOWN], *(["…"] if len(names) > NAMES_SHOWN else [])])


def main() -> int:
    """Return 0 if nothing is known, FOUND if something is, NOT_AUDITED if it cannot be told."""
    parser = argparse.ArgumentParser(prog="python -m tests.supply_chain.audit", description=__doc__)
    parser.add_argument("--lock", type=Path, default=LOCK, help="by default requirements.lock")
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="whom to ask")
    given = parser.parse_args()
    try:
        count, findings = audit(given.lock, given.service)
    except SupplyChainError as error:
        sys.stderr.write(f"{error}\n")
        return NOT_AUDITED
    for each in findings:
        sys.stdout.write(f"{each}\n")
    sys.stdout.write(f"packages={count} vulnerabilities={len(findings)}\n")
    return FOUND if findings else 0


if __name__ == "__main__":
    sys.exit(main())
