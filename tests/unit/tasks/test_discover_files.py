"""Which files of a folder are data, and whose."""

import os
from pathlib import Path

import pytest

from schemas.datasets import DATASETS
from schemas.errors import RefusedError
from tasks.discover_files import discover_files, split_name

SPECS = [each.spec for each in DATASETS]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("sales_data.csv", "sales_data"),
        ("SALES_DATA.CSV", "sales_data"),
        ("sales_data_2025-01-31.csv.gz", "sales_data"),
        ("sales_data 2.csv.zst", "sales_data"),
        ("sales_data.20250131T101112Z.tsv", "sales_data"),
        ("customers.xlsx", "customers"),
        ("customers_1.jsonl", "customers"),
        ("products.parquet", "products"),
    ],
)
def test_a_file_named_after_a_dataset_is_of_its_contract(
    tmp_path: Path, name: str, table: str
) -> None:
    (tmp_path / name).touch()
    [found], notes = discover_files(tmp_path, SPECS)
    assert (found.table, found.spec.table, notes) == (table, table, [])
    assert found.path.is_absolute()


@pytest.mark.parametrize("name", ["my_customers.csv", "customers_old.csv", "customer.csv"])
def test_a_file_of_another_name_has_no_contract(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    [found], _ = discover_files(tmp_path, SPECS)
    assert found.spec is None
    assert found.table not in {each.table for each in SPECS}


def test_older_files_come_first_and_equally_old_ones_by_name(tmp_path: Path) -> None:
    for name, when in (("b.csv", 10), ("a.csv", 30), ("d.csv", 20), ("c.csv", 20)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (when, when))
    found, _ = discover_files(tmp_path, [])
    assert [each.path.name for each in found] == ["b.csv", "c.csv", "d.csv", "a.csv"]


def test_hidden_and_unfinished_files_are_passed_over_and_others_named(tmp_path: Path) -> None:
    for name in (".a.csv", "~$a.xlsx", "a.csv.part", "a.csv.tmp", "a.csv.crdownload"):
        (tmp_path / name).touch()
    assert discover_files(tmp_path, []) == ([], [])
    for name in ("notes.pdf", "README", "a.xls"):
        (tmp_path / name).touch()
    (tmp_path / "x.csv").mkdir()
    found, notes = discover_files(tmp_path, [])
    assert found == []
    assert len(notes) == 4
    assert f"{tmp_path / 'x.csv'} was left out: it is a folder, only files are read." in notes
    assert f"{tmp_path / 'notes.pdf'} was left out: the platform reads no '.pdf' files." in notes


def test_a_name_that_is_no_text_is_left_out_and_told_readably(tmp_path: Path) -> None:
    for name in (b"caf\xe9.csv", b"caf\xe9.\xe8", b"\xff"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).touch()  # noqa: PTH118 - bytes
    found, notes = discover_files(tmp_path, [])
    assert found == []
    shown = f"{tmp_path}/caf\\xe9"
    assert sorted(notes) == sorted(
        [
            f"{shown}.csv was left out: its name is not UTF-8, rename the file.",
            f"{shown}.\\xe8 was left out: the platform reads no '.\\xe8' files.",
            f"{tmp_path}/\\xff was left out: the platform reads no files without an ending.",
        ]
    )


def test_a_folder_that_is_missing_or_a_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        RefusedError, match="does not exist: create it, or set SLUICEWAY_RAW_FOLDER"
    ):
        discover_files(tmp_path / "nowhere", SPECS)
    (tmp_path / "file").touch()
    with pytest.raises(RefusedError, match="is a file, not a folder"):
        discover_files(tmp_path / "file", SPECS)


def test_a_link_to_nowhere_is_found_and_left_for_the_load_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "nowhere")
    [found], notes = discover_files(tmp_path, [])
    assert (found.path.name, notes) == ("a.csv", [])


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.csv", (".csv", "a")),
        ("A.CSV.GZ", (".csv", "A")),
        ("a.b.json.zst", (".json", "a.b")),
        ("a", ("", "a")),
        ("a.gz", ("", "a")),
    ],
)
def test_a_name_is_split_at_its_format(name: str, parts: tuple[str, str]) -> None:
    assert split_name(name) == parts
