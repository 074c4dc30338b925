"""Two contracts that differ in one word: whether the buyer's e-mail is personal."""

import datetime as dt
from decimal import Decimal

from schemas.dataset import Dataset, Missing, Role, column
from schemas.datasets import Customers, Products


class OrdersInClear(
    Dataset, table="orders_in_clear", role=Role.FACT, key=("order_id",), event_time="order_date"
):
    """One row per order line, with its buyer's e-mail as it came."""

    order_id: int = column(ge=1)
    customer_id: int = column(ge=1, references=Customers)
    product_id: int = column(ge=1, references=Products)
    order_date: dt.date = column(ge=dt.date(2000, 1, 1), le=dt.date(2100, 1, 1))
    quantity: int = column(ge=1, le=10_000)
    unit_price: Decimal = column(ge=0)
    discount: float = column(missing=0.0, ge=0, le=1)
    channel: str = column(missing=Missing.NULL, isin=["store", "web", "phone"])
    email: str = column(nullable=True)


class OrdersEncrypted(
    Dataset, table="orders_encrypted", role=Role.FACT, key=("order_id",), event_time="order_date"
):
    """One row per order line, with its buyer's e-mail encrypted."""

    order_id: int = column(ge=1)
    customer_id: int = column(ge=1, references=Customers)
    product_id: int = column(ge=1, references=Products)
    order_date: dt.date = column(ge=dt.date(2000, 1, 1), le=dt.date(2100, 1, 1))
    quantity: int = column(ge=1, le=10_000)
    unit_price: Decimal = column(ge=0)
    discount: float = column(missing=0.0, ge=0, le=1)
    channel: str = column(missing=Missing.NULL, isin=["store", "web", "phone"])
    email: str = column(nullable=True, pii=True)


PERSONAL_ORDERS: tuple[type[Dataset], ...] = (OrdersInClear, OrdersEncrypted)
