"""What is left of a bill of materials: the platform's own, as the lock has it."""

from typing import Any

import pytest

from tests.supply_chain.lock_file import SupplyChainError
from tests.supply_chain.sbom import check_versions, keep_platform

PARTS = {"prefect": "platform", "ruamel-yaml": "platform", "pytest": "dev", "noida-db": "local"}
SBOM: dict[str, Any] = {
    "bomFormat": "CycloneDX",
    "metadata": {"component": {"bom-ref": "root"}},
    "components": [
        {"name": name, "version": "1", "bom-ref": f"{name}==1"}
        for name in ("noida-db", "pip", "prefect", "pytest", "ruamel.yaml")
    ],
    "dependencies": [
        {"ref": "root", "dependsOn": ["prefect==1", "pytest==1"]},
        {"ref": "prefect==1", "dependsOn": ["ruamel.yaml==1", "pip==1"]},
        {"ref": "pytest==1", "dependsOn": ["prefect==1"]},
        {"ref": "ruamel.yaml==1"},
    ],
}


def test_only_what_the_platform_runs_on_is_listed() -> None:
    kept = keep_platform(SBOM, PARTS)
    assert [each["name"] for each in kept["components"]] == ["prefect", "ruamel.yaml"]
    assert kept["dependencies"] == [
        {"ref": "root", "dependsOn": ["prefect==1"]},
        {"ref": "prefect==1", "dependsOn": ["ruamel.yaml==1"]},
        {"ref": "ruamel.yaml==1", "dependsOn": []},
    ]
    assert kept["bomFormat"] == "CycloneDX"


def test_a_version_that_is_not_locked_is_refused() -> None:
    kept = keep_platform(SBOM, PARTS)
    check_versions(kept, {("prefect", "1"), ("prefect", "2"), ("ruamel-yaml", "1")})
    with pytest.raises(SupplyChainError, match=r"not as requirements\.lock says: prefect 1\."):
        check_versions(kept, {("prefect", "2"), ("ruamel-yaml", "1")})
