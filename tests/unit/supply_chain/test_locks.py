"""Every lock pins each package by version and hash, and names no place to fetch it from."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.supply_chain.lock_file import CHECKOUT, SupplyChainError, find_parts, read_lock

LOCKS = sorted(CHECKOUT.glob("requirements*.lock")) + sorted(
    (CHECKOUT / "tests").rglob("requirements*.lock")
)
SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


def test_the_locks_are_found() -> None:
    names = {each.name for each in LOCKS}
    assert {"requirements.lock", "requirements-peers.lock", "requirements-tools.lock"} <= names


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_each_package_has_a_version_and_hashes(lock: Path) -> None:
    packages = read_lock(lock)
    assert packages
    for each in packages:
        assert each.hashes, each.name
        assert all(SHA256.fullmatch(one) for one in each.hashes), each.name


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_no_lock_names_a_host_or_a_folder(lock: Path) -> None:
    # Hashes, versions and markers have no slash, and no option but --hash is needed.
    text = lock.read_text(encoding="utf-8")
    assert "/" not in text
    assert "@" not in text
    assert set(re.findall(r"(?<!\S)--?[a-z-]+", text)) == {"--hash"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_package_stands_twice_only_for_different_systems(lock: Path) -> None:
    packages = read_lock(lock)
    count = Counter(each.name for each in packages)
    assert [each.name for each in packages if count[each.name] > 1 and not each.marker] == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://packages.example/simple",
        "left-pad @ https://packages.example/left-pad.whl",
        "left-pad>=1",
        "-e .",
    ],
)
def test_a_line_that_pins_no_package_is_refused(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"rich==15.0.0 \\\n    --hash=sha256:{'0' * 64}\n{line}\n")
    with pytest.raises(SupplyChainError, match="pins no package"):
        read_lock(lock)


def test_extras_and_what_they_need_belong_to_the_part_that_asks_for_them(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\ndependencies = ["dash[fastapi]"]\n'
        '[project.optional-dependencies]\ndev = ["uvicorn", "pytest"]\n'
    )
    parts = find_parts(project)
    assert parts["starlette"] == "platform"  # of FastAPI, which only the extra needs
    assert parts["uvicorn"] == "platform"
    assert parts["pluggy"] == "dev"
    assert "prefect" not in parts


def test_what_is_not_installed_is_said(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\ndependencies = ["no-such-package"]\n[project.optional-dependencies]\n'
    )
    with pytest.raises(SupplyChainError, match="no-such-package is not installed"):
        find_parts(project)
