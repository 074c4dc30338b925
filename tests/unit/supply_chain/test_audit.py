"""An audit that asked about too little is not one that found nothing."""

from pathlib import Path

import pytest

from tests.supply_chain.audit import audit, read_answer
from tests.supply_chain.lock_file import SupplyChainError

SOUND = {"name": "rich", "version": "15.0.0", "vulns": []}
SKIPPED = {"name": "idna", "skip_reason": "Dependency not found on PyPI"}
HOLED = {
    "name": "jinja2",
    "version": "2.10",
    "vulns": [
        {"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": []},
        {"id": "PYSEC-0000-000", "fix_versions": [], "aliases": []},
    ],
}


def test_findings_tell_what_to_do() -> None:
    count, findings = read_answer({"dependencies": [SOUND, HOLED]}, "pypi")
    assert count == 2
    assert [str(each) for each in findings] == [
        "jinja2 2.10: PYSEC-2019-217, fixed in 2.10.1",
        "jinja2 2.10: PYSEC-0000-000, no fix is known",
    ]


@pytest.mark.parametrize("packages", [[SOUND, SKIPPED], [SKIPPED], []])
def test_a_package_that_was_skipped_is_not_sound(packages: list[dict[str, object]]) -> None:
    with pytest.raises(SupplyChainError, match="were not audited"):
        read_answer({"dependencies": packages}, "pypi")


def test_a_lock_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SupplyChainError, match=r"no lock .*missing\.lock"):
        audit(tmp_path / "missing.lock", "osv")
