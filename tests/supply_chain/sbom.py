"""`python -m tests.supply_chain.sbom FILE`: what the platform runs on, as CycloneDX 1.6 in JSON.

It lists the installed packages that the platform needs, each with its licence and what it needs in
turn; what only the tests and `make demo` need is left out. Equal environments give equal files.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from tests.supply_chain.lock_file import (
    CHECKOUT,
    PROJECT,
    SupplyChainError,
    find_parts,
    read_lock,
)
from tests.supply_chain.tools import make_tools

VALIDATOR = Path(__file__).with_name("validate_sbom.py")


def make_sbom() -> dict[str, Any]:
    """Return the bill of materials; raises SupplyChainError where the tools cannot make it."""
    tools = make_tools()
    made = _run(
        [
            *(str(tools), "-m", "cyclonedx_py", "environment", sys.executable),
            *("--pyproject", str(PROJECT), "--spec-version", "1.6", "--output-reproducible"),
            *("--output-format", "JSON", "--output-file", "-"),
        ]
    )
    kept = keep_platform(json.loads(made), find_parts())
    check_versions(kept, {(canonicalize_name(each.name), each.version) for each in read_lock()})
    _run([str(tools), str(VALIDATOR)], json.dumps(kept))
    return kept


def keep_platform(sbom: Mapping[str, Any], parts: Mapping[str, str]) -> dict[str, Any]:
    """Return the bill without what only tests and the local stack need."""
    components = [
        each
        for each in sbom["components"]
        if parts.get(canonicalize_name(each["name"])) == "platform"
    ]
    root = sbom["metadata"]["component"]["bom-ref"]
    refs = {root, *(each["bom-ref"] for each in components)}
    dependencies = [
        each | {"dependsOn": [ref for ref in each.get("dependsOn", ()) if ref in refs]}
        for each in sbom["dependencies"]
        if each["ref"] in refs
    ]
    return {**sbom, "components": components, "dependencies": dependencies}


def check_versions(sbom: Mapping[str, Any], locked: Container[tuple[str, str]]) -> None:
    """Return if each component's name and version are locked; raises SupplyChainError otherwise."""
    others = [
        f"{each['name']} {each['version']}"
        for each in sbom["components"]
        if (canonicalize_name(each["name"]), each["version"]) not in locked
    ]
    if others:
        raise SupplyChainError(
            f"Installed, but not as requirements.lock says: {', '.join(others)}. "
            "Remove .venv/.installed and run `make`."
        )


def _run(command: list[str], given: str = "") -> str:
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, cwd=CHECKOUT
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[-500:]
        raise SupplyChainError(f"The bill of materials could not be made: {said}")
    return done.stdout


def main() -> int:
    """Return 0 once the file is there."""
    parser = argparse.ArgumentParser(prog="python -m tests.supply_chain.sbom", description=__doc__)
    parser.add_argument("file", type=Path, help="where it goes, as sbom.json")
    file = parser.parse_args().file
    try:
        sbom = make_sbom()
        file.write_text(json.dumps(sbom, indent=2) + "\n", encoding="utf-8")
    except SupplyChainError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{file} cannot be written: {error.strerror}.\n")
        return 1
    sys.stdout.write(f"{file}: {len(sbom['components'])} packages.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
