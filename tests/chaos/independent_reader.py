"""What a sales file must come to, found by Python's csv module and nothing of the platform's."""

import csv
import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

DATE_FORMATS = ("%Y-%m-%d", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%b-%Y", "%b %d, %Y")
CHANNELS = {"store", "web", "phone"}
FIRST_DAY, LAST_DAY = dt.date(2000, 1, 1), dt.date(2100, 1, 1)


class Sale(NamedTuple):
    """One order line as the file means it."""

    order_id: int
    customer_id: int
    product_id: int
    order_date: dt.date
    quantity: int
    unit_price: Decimal
    discount: float
    channel: str | None


@dataclass
class Expected:
    """What the tables and the ledger must hold once the files so far are loaded."""

    rows: dict[int, tuple[Sale, str, int]] = field(default_factory=dict)
    """By key: the newest row, the file it came from, its line there."""
    ledgers: dict[str, dict[str, int]] = field(default_factory=dict)
    quarantined: dict[str, set[int]] = field(default_factory=dict)
    """Lines by file."""
    customers: set[int] = field(default_factory=set)
    products: set[int] = field(default_factory=set)

    def then(self, path: Path) -> "Expected":
        """Return what must hold after that file too, which is newer than those before."""
        result = Expected(
            dict(self.rows), dict(self.ledgers), dict(self.quarantined),
            set(self.customers), set(self.products),
        )  # fmt: skip
        name = path.name
        winners: dict[int, tuple[Sale, int]] = {}
        losers: list[Sale] = []
        rejected: set[int] = set()
        for line, sale in read_sales(path):
            if sale is None:
                rejected.add(line)
                continue
            result.customers.add(sale.customer_id)
            result.products.add(sale.product_id)
            if (earlier := winners.get(sale.order_id)) is not None:
                losers.append(earlier[0])
            winners[sale.order_id] = (sale, line)
        duplicates = sum(each == winners[each.order_id][0] for each in losers)
        ledger = {"inserted": 0, "updated": 0, "unchanged": 0}
        for key, (sale, line) in winners.items():
            there = self.rows.get(key)
            if there is not None and there[0] == sale:
                ledger["unchanged"] += 1
                continue
            ledger["inserted" if there is None else "updated"] += 1
            result.rows[key] = (sale, name, line)
        ledger |= {
            "read": len(winners) + len(losers) + len(rejected),
            "duplicates": duplicates,
            "superseded": len(losers) - duplicates,
            "quarantined": len(rejected),
        }
        result.ledgers[name] = ledger
        result.quarantined[name] = rejected
        return result

    @cached_property
    def as_csv(self) -> str:
        """Return the fact's rows by key, as PostgreSQL writes them in CSV."""
        return "".join(
            f"{s.order_id},{s.customer_id},{s.product_id},{s.order_date},{s.quantity},"
            f"{s.unit_price:.2f},{s.discount:g},{s.channel or ''},{file},{line}\n"
            for _, (s, file, line) in sorted(self.rows.items())
        )


def read_sales(path: Path) -> Iterator[tuple[int, Sale | None]]:
    """Yield every record with its line; None for one that breaks the contract."""
    with path.open(encoding="utf-8", newline="") as file:
        records = csv.reader(file)
        header = next(records)
        for cells in records:
            yield records.line_num, _sale(cells) if len(cells) == len(header) else None


def _sale(cells: list[str]) -> Sale | None:
    order, customer, product, day, quantity, price, discount, channel = map(str.strip, cells)
    sale = (
        _whole(order), _whole(customer), _whole(product), _date(day), _whole(quantity),
        _amount(price), float(discount) if discount else 0.0, channel or None,
    )  # fmt: skip
    if None in sale[:7] or not 0 <= sale[6] <= 1:
        return None
    if sale[4] > 10_000 or not FIRST_DAY <= sale[3] <= LAST_DAY or (channel not in {*CHANNELS, ""}):
        return None
    return Sale(*sale)


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]+", text) and int(text) >= 1 else None


@cache
def _date(text: str) -> dt.date | None:
    for form in DATE_FORMATS:
        try:
            return dt.datetime.strptime(text, form).date()  # noqa: DTZ007 - a date has no zone
        except ValueError:
            continue
    return None


@cache
def _amount(text: str) -> Decimal | None:
    if re.fullmatch(r"[0-9]{1,3}(,[0-9]{3})+\.[0-9]{2}", text):
        text = text.replace(",", "")
    elif re.fullmatch(r"[0-9]{1,3}(\.[0-9]{3})+,[0-9]{2}", text):
        text = text.replace(".", "").replace(",", ".")
    return Decimal(text) if re.fullmatch(r"[0-9]+(\.[0-9]{1,2})?", text) else None
