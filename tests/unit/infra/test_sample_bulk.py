import csv
import datetime as dt
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from infra.sample import bulk
from infra.sample.bulk import (
    main,
    write_clean_sales,
    write_dimensions,
    write_increment,
    write_sales,
)
from infra.sample.flaws import Flaw, Outcome
from schemas.datasets import Customers, Products, Sales

ROWS = 6_000


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK_ROWS", 1_000)


def read_rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == Sales.spec.names
    return rows


def is_loadable(row: list[str]) -> bool:
    """Judge a row by the few rules that the planted flaws can break."""
    if len(row) != 8:
        return False
    order, customer, product, day, quantity, price, discount, channel = map(str.strip, row)
    return (
        order.isdigit()
        and customer.isdigit()
        and product.isdigit()
        and day not in ("", "2025-02-30", "31/04/2025", "2024-13-01", "0000-00-00", "32.01.2025")
        and quantity.isdigit()
        and 1 <= int(quantity) <= 10_000
        and price.replace(",", "").replace(".", "").isdigit()
        and (discount == "" or discount.replace(".", "").isdigit())
        and channel in ("", "store", "web", "phone")
    )


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_counts_are_what_an_independent_reader_counts(
    tmp_path: Path, *, shuffled: bool
) -> None:
    counts = write_sales(tmp_path / "s.csv", ROWS, customers=50, dirty_share=0.2, shuffled=shuffled)
    rows = read_rows(tmp_path / "s.csv")
    duplicates = superseded = quarantined = 0
    seen, newest = set(), {}
    for row in rows:
        if not is_loadable(row):
            quarantined += 1
        elif tuple(row) in seen:
            duplicates += 1
        else:
            seen.add(tuple(row))
            superseded += row[0].strip() in newest
            newest[row[0].strip()] = row
    ledger = counts.ledger
    assert ledger.read == len(rows) == ROWS
    assert ledger.duplicates == duplicates > 20
    assert ledger.superseded == superseded > 20
    assert ledger.quarantined == quarantined > 200
    assert ledger.inserted == len(newest)
    members = {row[1].strip() for row in newest.values()}
    assert {each for each in members if int(each) > 50} == counts.unknown_customers
    assert {row[2] for row in newest.values() if int(row[2]) > 500} == counts.unknown_products
    assert counts.planted.total() == pytest.approx(0.2 * ROWS, rel=0.15)


def test_a_duplicate_is_far_from_its_first_row(tmp_path: Path) -> None:
    write_sales(tmp_path / "s.csv", ROWS)
    places: dict[str, list[int]] = {}
    for place, row in enumerate(read_rows(tmp_path / "s.csv")):
        if row[0].strip():
            places.setdefault(row[0].strip(), []).append(place)
    twice = [found for found in places.values() if len(found) > 1]
    assert twice
    assert {second - first for first, second in twice} == {ROWS // 3}


@pytest.mark.parametrize("shuffled", [False, True])
def test_clean_sales_are_the_same_rows_typed_and_on_even_keys(
    tmp_path: Path, *, shuffled: bool
) -> None:
    write_sales(tmp_path / "dirty.csv", ROWS, shuffled=shuffled)
    counts = write_clean_sales(tmp_path / "clean.csv", ROWS, shuffled=shuffled)
    clean, dirty = read_rows(tmp_path / "clean.csv"), read_rows(tmp_path / "dirty.csv")
    assert counts.planted == Counter()
    assert sorted(int(row[0]) for row in clean) == list(range(2, 2 * ROWS + 1, 2))
    assert (clean == sorted(clean, key=lambda row: int(row[0]))) is not shuffled
    for row in clean:
        int(row[1]), int(row[2]), int(row[4])
        Decimal(row[5]), float(row[6])
        assert dt.date.fromisoformat(row[3]).year in (2024, 2025)
        assert is_loadable(row)
    differing = sum(one != other for one, other in zip(clean, dirty, strict=True))
    assert 0 < differing < 0.02 * ROWS


def test_chunks_do_not_show_in_the_clean_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clean_sales(tmp_path / "a.csv", ROWS)
    monkeypatch.setattr(bulk, "CHUNK_ROWS", 1_777)
    write_clean_sales(tmp_path / "b.csv", ROWS)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_sales(tmp_path / name, ROWS, seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("shuffled", [False, True])
def test_an_increment_changes_loaded_keys_and_adds_odd_ones_over_the_whole_range(
    tmp_path: Path, *, shuffled: bool
) -> None:
    given: dict[str, Any] = {"dirty_share": 0.2, "shuffled": shuffled}
    write_sales(tmp_path / "first.csv", ROWS, **given)
    ledger = write_increment(tmp_path / "more.csv", 600, ROWS, **given)
    newest = {row[0].strip(): row for row in read_rows(tmp_path / "first.csv") if is_loadable(row)}
    rows = read_rows(tmp_path / "more.csv")
    keys = [int(row[0]) for row in rows]
    changed = [row for row in rows if row[0] in newest]
    added = [key for key in keys if key % 2]
    assert (ledger.read, ledger.updated, ledger.inserted) == (600, 300, 300)
    assert len(changed) == len(added) == 300
    assert len(set(keys)) == 600
    assert keys != sorted(keys)
    for row in changed:
        assert row[1:] != [cell.strip() for cell in newest[row[0]][1:]]
        assert row[4] != newest[row[0]][4]
    for part in (added, [int(row[0]) for row in changed]):
        tenths = Counter(key * 10 // (2 * ROWS + 1) for key in part)
        assert set(tenths) == set(range(10))
        assert max(tenths.values()) < 45


def test_an_increment_larger_than_what_is_loaded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keys are there to update"):
        write_increment(tmp_path / "more.csv", 3 * ROWS, ROWS)


def test_dimensions_hold_every_key(tmp_path: Path) -> None:
    write_dimensions(tmp_path, customers=40, products=20)
    for name, spec, count in (
        ("customers.csv", Customers.spec, 40),
        ("products.csv", Products.spec, 20),
    ):
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert tuple(header) == spec.names
        assert [int(row[0]) for row in rows] == list(range(1, count + 1))


def test_the_command_writes_all_inputs_and_prints_what_they_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CUSTOMERS", 100)
    assert main(["--rows", "5000", "--folder", str(tmp_path)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads((tmp_path / "planted.json").read_text())
    assert facts["first"]["read"] == len(read_rows(tmp_path / "first" / "sales_data.csv")) == 5_000
    assert len(read_rows(tmp_path / "clean" / "sales_data.csv")) == 5_000
    assert facts["increment"]["updated"] == 250
    assert sum(facts["planted"].values()) > 20
    assert set(facts["planted"]) <= set(Flaw)
    assert (
        sum(n for k, n in facts["planted"].items() if Flaw(k).outcome is Outcome.QUARANTINED)
        == (facts["first"]["quarantined"])
    )


def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    assert main(["--rows", "10", "--folder", str(tmp_path / "taken" / "below")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
