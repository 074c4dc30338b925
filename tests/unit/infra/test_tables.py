"""The tables of a dataset follow from its contract."""

import datetime as dt
import re
from decimal import Decimal

from infra.postgres.layout import Target, key_name, sql_type, staging_table
from infra.postgres.tables import staging_of, tables_of, warehouse_of
from schemas.dataset import Dataset, History, Role, column


class Regions(Dataset, table="regions", role=Role.DIMENSION, key=("id",)):
    """One row per region; it's small."""

    id: int = column()
    name: str = column(nullable=True)


class Shops(
    Dataset,
    table="shops",
    role=Role.DIMENSION,
    key=("shop_id",),
    history=History.KEEP_VERSIONS,
):
    """One row per shop."""

    shop_id: int = column()
    region_id: int = column(references=Regions)
    opened_at: dt.datetime = column()
    area: Decimal = column(scale=4, missing=0)
    is_open: bool = column(nullable=True)
    size: float = column()


class Stock(Dataset, table="stock", role=Role.FACT, key=("shop_id", "day")):
    """One row per shop and day."""

    shop_id: int = column(references=Shops)
    day: dt.date = column()
    units: int = column(nullable=True)


class Notes(Dataset, table="notes", role=Role.STAGING):
    """One row per note."""

    text: str = column()


def columns_of(ddl: str) -> dict[str, str]:
    return dict(re.findall(r'^    "([^"]+)" (.*?),?$', ddl, re.MULTILINE))


def test_types_follow_the_kinds() -> None:
    types = {each.name: sql_type(each) for each in Shops.spec.columns}
    assert types == {
        "shop_id": "bigint",
        "region_id": "bigint",
        "opened_at": "timestamptz",
        "area": "numeric(18,4)",
        "is_open": "boolean",
        "size": "double precision",
    }


def test_staging_holds_every_column_nullable_and_the_lineage() -> None:
    columns = columns_of(staging_of(Stock.spec).ddl)
    assert list(columns)[:3] == ["shop_id", "day", "units"]
    assert not any("NOT NULL" in columns[name] for name in Stock.spec.names)
    assert {"_line", "_row_hash", "_batch_id", "_source", "_version", "_extracted_at"} <= {
        name for name, kind in columns.items() if kind.endswith("NOT NULL")
    }
    assert columns["_extra"] == "jsonb"
    assert staging_table(Stock.spec) == '"staging"."stock"'


def test_a_fact_holds_surrogates_and_keeps_a_natural_value_of_its_key() -> None:
    ddl = tables_of(Stock.spec)[1].ddl
    columns = columns_of(ddl)
    assert columns["shop_id"] == columns["shop_key"] == "bigint NOT NULL"
    assert columns["day"] == "date NOT NULL"
    assert columns["units"] == "bigint"
    assert 'CONSTRAINT "fact_stock_pkey" PRIMARY KEY ("shop_id", "day")' in ddl


def test_a_dimension_that_keeps_versions_has_their_validity() -> None:
    ddl = tables_of(Shops.spec)[1].ddl
    columns = columns_of(ddl)
    assert columns["shop_key"].endswith("PRIMARY KEY")
    assert "region_id" not in columns
    assert columns["region_key"] == "bigint"
    assert {"valid_from", "valid_to", "is_current", "_is_inferred"} <= set(columns)
    assert 'UNIQUE ("shop_id", "valid_from")' in ddl
    assert 'ON "warehouse"."dim_shops" ("shop_id") WHERE is_current' in ddl


def test_a_dimension_bounds_what_its_contract_requires_except_for_inferred_members() -> None:
    ddl = tables_of(Shops.spec)[1].ddl
    check = re.search(r'CHECK \("_is_inferred" OR \((.*)\)\)', ddl)
    assert check is not None
    assert check.group(1).split(" AND ") == [
        f'"{name}" IS NOT NULL' for name in ("region_key", "opened_at", "area", "size")
    ]
    overwritten = tables_of(Regions.spec)[1].ddl
    assert "CHECK" not in overwritten
    assert 'UNIQUE ("id")' in overwritten


def test_a_dataset_for_staging_has_no_other_table() -> None:
    assert warehouse_of(Notes.spec) is None
    assert [each.schema for each in tables_of(Notes.spec)] == ["staging"]


def test_a_quote_in_a_description_stays_inside_the_comment() -> None:
    assert "IS 'One row per region; it''s small.'" in staging_of(Regions.spec).ddl


def test_surrogate_keys_are_named_after_natural_ones() -> None:
    assert key_name("customer_id", "customers") == "customer_key"
    assert key_name("id", "api_users") == "api_users_key"
    assert key_name("sku", "products") == "sku_key"
    assert Target(Regions.spec).surrogate == "regions_key"
    assert Target(Stock.spec).surrogate is None
