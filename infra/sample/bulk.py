"""Large sales files for benchmarks, fast and in bounded memory, with every planted flaw counted.

python -m infra.sample.bulk --rows 5000000 --folder X

A row is a pure function of its key, the seed and its revision, so any part of a file can be made
again without the rest: that is how a duplicate repeats a row far before it. First loads hold the
even keys 2, 4, … alone; an increment's new rows take odd ones between them.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from infra.sample.bulk_plan import SalesPlan, scatter
from infra.sample.bulk_rows import make_lines, read_cells
from infra.sample.draw import Draw
from infra.sample.flaws import Flaw, Ledger
from infra.sample.planting import DUPLICATES, format_record, spoil
from infra.sample.shop import (
    CUSTOMER_HEADER,
    PRODUCT_HEADER,
    SALES_HEADER,
    make_customers,
    make_products,
)

CHUNK_ROWS = 1_000_000
CUSTOMERS = 100_000
PRODUCTS = 500
DIRTY_SHARE = 0.01
SEED = 7


@dataclass(slots=True)
class BulkCounts:
    """What was written into a sales file, for a benchmark to hold a load to."""

    clean: int = 0
    planted: Counter[Flaw] = field(default_factory=Counter)
    unknown_customers: set[str] = field(default_factory=set)
    unknown_products: set[str] = field(default_factory=set)

    @property
    def ledger(self) -> Ledger:
        """What a first load of the file must count."""
        return Ledger.count(self.clean, self.planted)


def write_sales(
    path: Path,
    rows: int,
    *,
    seed: int = SEED,
    customers: int = CUSTOMERS,
    products: int = PRODUCTS,
    dirty_share: float = DIRTY_SHARE,
    shuffled: bool = False,
) -> BulkCounts:
    """Write `rows` sales records, about `dirty_share` of them flawed, and return what was planted.

    Keys are even, from 2 to twice `rows`, ascending or, if `shuffled`, scattered. A duplicate
    stands a third of the file behind the row it repeats, in the place of the row that
    `write_clean_sales` has there.
    """
    plan = SalesPlan(rows, seed, customers, products, dirty_share, shuffled=shuffled)
    counts = BulkCounts()
    draw = Draw(seed)

    def make(start: int, stop: int) -> pl.Series:
        positions = np.arange(start, stop, dtype=np.int64)
        codes = plan.codes_at(positions)
        keys = 2 * (plan.orders_at(plan.sources(positions, codes)) + 1)
        revisions = plan.revisions(codes)
        lines = make_lines(keys, revisions, seed, customers, products)
        flawed = np.flatnonzero(codes >= 0)
        counts.clean += stop - start - len(flawed)
        return _spoil_lines(lines, flawed, codes, plan, draw, counts)

    _write_chunks(path, rows, make)
    return counts


def write_clean_sales(
    path: Path,
    rows: int,
    *,
    seed: int = SEED,
    customers: int = CUSTOMERS,
    products: int = PRODUCTS,
    shuffled: bool = False,
) -> BulkCounts:
    """Write the same rows without dirt: `\\copy` takes them into a table of typed columns."""  # noqa: D301 - psql's command has one backslash
    return write_sales(
        path,
        rows,
        seed=seed,
        customers=customers,
        products=products,
        dirty_share=0.0,
        shuffled=shuffled,
    )


def write_increment(
    path: Path,
    rows: int,
    total: int,
    *,
    seed: int = SEED,
    customers: int = CUSTOMERS,
    products: int = PRODUCTS,
    dirty_share: float = DIRTY_SHARE,
    shuffled: bool = False,
) -> Ledger:
    """Write changed and new rows for a first load of `total`, both spread over all its keys.

    Half of them are new content for keys that the first load left in the warehouse (so give the
    same seed, share and order), half are new odd keys. They are clean and stand in scattered order.
    Returns what a load on top of the first one must count.
    """
    plan = SalesPlan(total, seed, customers, products, dirty_share, shuffled=shuffled)
    changed = _choose_loaded(plan, rows // 2)
    added = 2 * (np.arange(rows - len(changed)) * total // max(1, rows - len(changed))) + 1
    keys = np.concatenate([changed, added])
    revisions = np.repeat(np.array([2, 0]), [len(changed), len(added)])
    order = np.argsort(scatter(np.arange(rows), seed, 102), kind="stable")
    keys, revisions = keys[order], revisions[order]

    def make(start: int, stop: int) -> pl.Series:
        return make_lines(keys[start:stop], revisions[start:stop], seed, customers, products)

    _write_chunks(path, rows, make)
    return Ledger(read=rows, inserted=len(added), updated=len(changed))


def write_dimensions(
    folder: Path, customers: int = CUSTOMERS, products: int = PRODUCTS, *, seed: int = SEED
) -> None:
    """Write clean customers.csv and products.csv with the keys that the sales refer to."""
    tables = (
        ("customers.csv", CUSTOMER_HEADER, make_customers(Draw(seed), customers)),
        ("products.csv", PRODUCT_HEADER, make_products(Draw(seed), products)),
    )
    for name, header, records in tables:
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            file.write(format_record(header) + "\n")
            file.writelines(format_record(record) + "\n" for record in records)


def _spoil_lines(
    lines: pl.Series,
    flawed: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int64],
    plan: SalesPlan,
    draw: Draw,
    counts: BulkCounts,
) -> pl.Series:
    """Return the lines with those at `flawed` spoilt, and count what was done."""
    replaced: list[str] = []
    for line, code in zip(lines.gather(flawed), codes[flawed], strict=True):
        recipe = plan.recipes[code]
        counts.planted[recipe.flaw] += 1
        if recipe.flaw in DUPLICATES:
            replaced.append(line)
            continue
        cells = read_cells(line)
        column, clean = spoil(cells, SALES_HEADER, recipe, draw)
        if recipe.flaw is Flaw.UNKNOWN_MEMBER:
            members = {
                "customer_id": counts.unknown_customers,
                "product_id": counts.unknown_products,
            }
            members[column].add(clean)
        replaced.append(format_record(cells))
    return lines.scatter(flawed, replaced) if replaced else lines


def _choose_loaded(plan: SalesPlan, wanted: int) -> npt.NDArray[np.int64]:
    """Return `wanted` keys that a first load leaves in the warehouse, evenly over all of them."""
    chosen = [np.empty(0, dtype=np.int64)]
    for start, stop in _chunks(plan.rows):
        orders = np.arange(start, stop, dtype=np.int64)
        loaded = orders[plan.is_loaded(orders)]
        quota = wanted * stop // plan.rows - wanted * start // plan.rows
        if quota > len(loaded):
            message = f"Only {len(loaded)} of {stop - start} keys are there to update, not {quota}."
            raise ValueError(message)
        chosen.append(2 * (loaded[np.arange(quota) * len(loaded) // max(1, quota)] + 1))
    return np.concatenate(chosen)


def _chunks(rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, rows, CHUNK_ROWS):
        yield start, min(start + CHUNK_ROWS, rows)


def _write_chunks(path: Path, rows: int, make: Callable[[int, int], pl.Series]) -> None:
    with path.open("wb") as file:
        file.write(format_record(SALES_HEADER).encode() + b"\n")
        for start, stop in _chunks(rows):
            make(start, stop).to_frame().write_csv(file, include_header=False, quote_style="never")


def write_bench(folder: Path, rows: int, *, seed: int = SEED) -> dict[str, object]:
    """Write all inputs of the batch benchmark below the folder, and return what they hold.

    first/ has the dimensions and dirty sales, clean/ the same sales without dirt, increment/ a
    tenth of them changed and new; planted.json beside them says what each load must count.
    """
    for name in ("first", "clean", "increment"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_dimensions(folder / "first", seed=seed)
    counts = write_sales(folder / "first" / "sales_data.csv", rows, seed=seed)
    write_clean_sales(folder / "clean" / "sales_data.csv", rows, seed=seed)
    increment = write_increment(
        folder / "increment" / "sales_data.csv", rows // 10, rows, seed=seed
    )
    facts: dict[str, object] = {
        "first": asdict(counts.ledger),
        "increment": asdict(increment),
        "planted": dict(sorted(counts.planted.items())),
        "unknown_customers": len(counts.unknown_customers),
        "unknown_products": len(counts.unknown_products),
    }
    (folder / "planted.json").write_text(json.dumps(facts, indent=2) + "\n")
    return facts


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the benchmark's inputs; the exit code is 1 if they cannot be written."""
    parser = argparse.ArgumentParser(description="Write large sales files for benchmarks.")
    parser.add_argument("--rows", type=int, required=True, help="records of the first load")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args(arguments)
    if given.rows < 1:
        parser.error("--rows must be 1 or more")
    try:
        facts = write_bench(given.folder, given.rows, seed=given.seed)
    except OSError as error:
        sys.stderr.write(f"Cannot write into {given.folder}: {error}; name another --folder.\n")
        return 1
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
