"""The datasets this platform knows. To add one, write its class and its line in DATASETS."""

import datetime as dt
from decimal import Decimal

from schemas.dataset import Dataset, History, Missing, Role, column

DAILY = dt.timedelta(hours=26)
"""A daily export, with two hours of grace."""


class Customers(
    Dataset, table="customers", role=Role.DIMENSION, key=("customer_id",), freshness=DAILY
):
    """One row per customer of the shop, as the CRM exports it."""

    customer_id: int = column(ge=1)
    name: str = column(pii=True, str_length={"min_value": 1, "max_value": 200})
    email: str = column(pii=True, nullable=True, str_matches=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
    city: str = column(nullable=True)
    country: str = column(missing="unknown")
    signup_date: dt.date = column(ge=dt.date(2000, 1, 1), le=dt.date(2100, 1, 1))
    credit_limit: Decimal = column(nullable=True, ge=0)


class Products(
    Dataset,
    table="products",
    role=Role.DIMENSION,
    key=("product_id",),
    history=History.KEEP_VERSIONS,
    freshness=DAILY,
):
    """One row per product of the catalogue; earlier prices stay as versions of their own."""

    product_id: int = column(ge=1)
    name: str = column(str_length={"min_value": 1, "max_value": 200})
    category: str = column(isin=["books", "clothing", "electronics", "garden", "grocery", "toys"])
    price: Decimal = column(ge=0)
    weight_kg: float = column(nullable=True, gt=0)
    active: bool = column(missing=True)


class Sales(
    Dataset,
    table="sales_data",
    role=Role.FACT,
    key=("order_id",),
    event_time="order_date",
    freshness=DAILY,
):
    """One row per order line, as the shop's till reported it."""

    order_id: int = column(ge=1)
    customer_id: int = column(ge=1, references=Customers)
    product_id: int = column(ge=1, references=Products)
    order_date: dt.date = column(ge=dt.date(2000, 1, 1), le=dt.date(2100, 1, 1))
    quantity: int = column(ge=1, le=10_000)
    unit_price: Decimal = column(ge=0)
    discount: float = column(missing=0.0, ge=0, le=1)
    channel: str = column(missing=Missing.NULL, isin=["store", "web", "phone"])


class ApiUsers(Dataset, table="api_users", role=Role.DIMENSION, key=("id",), freshness=DAILY):
    """One row per user of the partner's API; nested objects are flattened with underscores."""

    id: int = column(ge=1)
    name: str = column(pii=True)
    username: str = column(pii=True)
    email: str = column(pii=True, str_matches=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
    phone: str = column(pii=True, nullable=True)
    website: str = column(nullable=True)
    address_street: str = column(pii=True, nullable=True)
    address_suite: str = column(pii=True, nullable=True)
    address_city: str = column(nullable=True)
    address_zipcode: str = column(nullable=True)
    address_geo_lat: float = column(pii=True, nullable=True, ge=-90, le=90)
    address_geo_lng: float = column(pii=True, nullable=True, ge=-180, le=180)
    company_name: str = column(nullable=True)
    company_catchphrase: str = column(nullable=True)
    company_bs: str = column(nullable=True)


DATASETS: tuple[type[Dataset], ...] = (
    Customers,
    Products,
    Sales,
    ApiUsers,
)
