"""The sample files: the same bytes from every run, each with a list of the dirt in it.

python -m infra.sample.generator --folder data/raw
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.sample.draw import Draw
from infra.sample.flaws import Recipe
from infra.sample.planting import DUPLICATES, SampleFile, plant
from infra.sample.shop import (
    CUSTOMER_HEADER,
    CUSTOMER_RECIPES,
    PRODUCT_HEADER,
    PRODUCT_RECIPES,
    SALES_HEADER,
    make_customers,
    make_products,
    make_sales,
    sales_recipes,
)

SEED = 20250131
CUSTOMERS = 5_000
PRODUCTS = 500
SALES = 50_000


@dataclass(frozen=True, slots=True)
class Sample:
    """The three files of the sample folder."""

    customers: SampleFile
    products: SampleFile
    sales: SampleFile

    @property
    def files(self) -> tuple[SampleFile, ...]:
        """The files, dimensions first."""
        return (self.customers, self.products, self.sales)


def make_sample(seed: int = SEED) -> Sample:
    """Return the sample that belongs to the seed; nothing is written.

    Sales name loaded customers and products alone, but for the planted unknown ones, so that the
    dimension rows a load must infer are exactly `sales.unknown_members(...)`.
    """
    draw = Draw(seed)
    clean_customers = list(make_customers(draw, _unrepeated(CUSTOMERS, CUSTOMER_RECIPES)))
    customers = plant("customers.csv", CUSTOMER_HEADER, clean_customers, CUSTOMER_RECIPES, draw)
    draw = Draw(seed + 1)
    clean_products = list(make_products(draw, _unrepeated(PRODUCTS, PRODUCT_RECIPES)))
    products = plant("products.csv", PRODUCT_HEADER, clean_products, PRODUCT_RECIPES, draw)
    draw = Draw(seed + 2)
    recipes = sales_recipes(CUSTOMERS, PRODUCTS)
    price = PRODUCT_HEADER.index("price")
    clean_sales = make_sales(
        draw,
        _unrepeated(SALES, recipes),
        [row[0] for row in clean_customers if row[0] in customers.loaded_keys],
        [(row[0], row[price]) for row in clean_products if row[0] in products.loaded_keys],
    )
    sales = plant("sales_data.csv", SALES_HEADER, list(clean_sales), recipes, draw)
    return Sample(customers, products, sales)


def write_sample(folder: Path, sample: Sample) -> None:
    """Write the sample's files into the folder, made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in sample.files:
        (folder / file.name).write_bytes(file.content)


def _unrepeated(records: int, recipes: Sequence[Recipe]) -> int:
    """Return how many rows there are before duplicates fill the file up to its size."""
    return records - sum(recipe.count for recipe in recipes if recipe.flaw in DUPLICATES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sample and say what is in it; the exit code is 1 if it cannot be written."""
    parser = argparse.ArgumentParser(description="Write the sample input files.")
    parser.add_argument("--folder", type=Path, default=Path("data/raw"), help="default: data/raw")
    folder: Path = parser.parse_args(arguments).folder
    sample = make_sample()
    try:
        write_sample(folder, sample)
    except OSError as error:
        reason = error.strerror or error
        sys.stderr.write(f"Cannot write into {folder}: {reason}; name another --folder.\n")
        return 1
    for file in sample.files:
        ledger = file.ledger
        sys.stdout.write(
            f"{folder / file.name}: {ledger.read} records, {len(file.planted)} flawed, of which "
            f"{ledger.quarantined} must be quarantined, {ledger.duplicates} are duplicates and "
            f"{ledger.superseded} supersede an earlier row\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
