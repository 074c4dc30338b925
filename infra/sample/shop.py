"""The invented shop: its customers, products and sales, clean, and what is spoilt in each."""

import datetime as dt
from collections.abc import Iterator, Sequence

from infra.sample.draw import Draw
from infra.sample.flaws import Flaw, Recipe, Written
from infra.sample.spoiling import (
    IMPOSSIBLE_DATES,
    WRONG_NUMBERS,
    add_sign,
    break_email,
    date_recipes,
    empty,
    group_by_commas,
    group_by_points,
    make_negative,
    replace_by,
    surround,
)
from infra.sample.words import (
    ADJECTIVES,
    CHANNELS,
    DISCOUNTS,
    EMOJI_NAMES,
    FIRST_NAMES,
    LAST_NAMES,
    MAIL_DOMAINS,
    NOUNS,
    PLACES,
    PLAIN_LETTERS,
    RIGHT_TO_LEFT_NAMES,
    WINDOWS_NAMES,
)
from schemas.datasets import Customers, Products, Sales

CUSTOMER_HEADER = Customers.spec.names
PRODUCT_HEADER = Products.spec.names
SALES_HEADER = Sales.spec.names

FIRST_SIGNUP = dt.date(2015, 1, 1).toordinal()
SIGNUP_DAYS = 10 * 365
FIRST_ORDER = dt.date(2024, 1, 1).toordinal()
ORDER_DAYS = 2 * 365
MAX_QUANTITY = 12


def make_customers(draw: Draw, count: int) -> Iterator[list[str]]:
    """Yield clean customers with the keys 1 to `count`."""
    for key in range(1, count + 1):
        first, last = draw.pick(FIRST_NAMES), draw.pick(LAST_NAMES)
        city, country = draw.pick(PLACES)
        user = f"{first}.{last}".lower().translate(PLAIN_LETTERS)
        yield [
            str(key),
            f"{first} {last}",
            f"{user}{key}@{draw.pick(MAIL_DOMAINS)}",
            city,
            country,
            dt.date.fromordinal(FIRST_SIGNUP + draw.below(SIGNUP_DAYS)).isoformat(),
            f"{50 * (1 + draw.below(15))}.00",
        ]


def make_products(draw: Draw, count: int) -> Iterator[list[str]]:
    """Yield clean products with the keys 1 to `count`."""
    categories = tuple(NOUNS)
    for key in range(1, count + 1):
        category = draw.pick(categories)
        yield [
            str(key),
            f"{draw.pick(ADJECTIVES)} {draw.pick(NOUNS[category])}",
            category,
            f"{2 + draw.below(180)}.{draw.pick(('00', '49', '90', '99'))}",
            f"{0.05 + draw.below(400) / 100:.2f}",
            "false" if draw.below(12) == 0 else "true",
        ]


def make_sales(
    draw: Draw, count: int, customers: Sequence[str], prices: Sequence[tuple[str, str]]
) -> Iterator[list[str]]:
    """Yield clean sales in the order of their dates; `prices` holds products' keys and prices."""
    for key in range(1, count + 1):
        product, price = draw.pick(prices)
        day = FIRST_ORDER + key * ORDER_DAYS // (count + 1)
        yield [
            str(key),
            draw.pick(customers),
            product,
            dt.date.fromordinal(day).isoformat(),
            str(1 + draw.below(MAX_QUANTITY)),
            price,
            draw.pick(DISCOUNTS),
            draw.pick(CHANNELS),
        ]


def _change_city(text: str, draw: Draw) -> Written:
    city = draw.pick([city for city, _ in PLACES if city != text])
    return Written(city, city)


def _raise_price(text: str, _draw: Draw) -> Written:
    units, cents = text.split(".")
    price = f"{int(units) + 1}.{cents}"
    return Written(price, price)


def _raise_quantity(text: str, _draw: Draw) -> Written:
    quantity = str(int(text) + 1)
    return Written(quantity, quantity)


CUSTOMER_RECIPES: tuple[Recipe, ...] = (
    Recipe(Flaw.SPACES, 5, ("customer_id", "name", "email", "city"), surround),
    *date_recipes("signup_date", 2),
    Recipe(Flaw.IMPOSSIBLE_DATE, 3, ("signup_date",), replace_by(*IMPOSSIBLE_DATES)),
    Recipe(Flaw.THOUSANDS_COMMA, 3, ("credit_limit",), group_by_commas),
    Recipe(Flaw.THOUSANDS_POINT, 2, ("credit_limit",), group_by_points),
    Recipe(Flaw.WRONG_TYPE, 3, ("customer_id", "credit_limit"), replace_by(*WRONG_NUMBERS)),
    Recipe(Flaw.MISSING_KEY, 2, ("customer_id",), empty),
    Recipe(Flaw.MISSING_VALUE, 2, ("name", "signup_date"), empty),
    Recipe(Flaw.EMPTY_OPTIONAL, 4, ("email", "city", "credit_limit"), empty),
    Recipe(Flaw.EMPTY_DEFAULTED, 3, ("country",), empty),
    Recipe(Flaw.BELOW_RANGE, 2, ("credit_limit",), make_negative),
    Recipe(Flaw.INVALID_EMAIL, 5, ("email",), break_email),
    Recipe(Flaw.WINDOWS_BYTES, 6, ("name",), replace_by(*WINDOWS_NAMES)),
    Recipe(Flaw.EMOJI, 3, ("name",), replace_by(*EMOJI_NAMES)),
    Recipe(Flaw.RIGHT_TO_LEFT, 3, ("name",), replace_by(*RIGHT_TO_LEFT_NAMES)),
    Recipe(Flaw.FIELD_TOO_MANY, 2),
    Recipe(Flaw.FIELD_TOO_FEW, 2),
    Recipe(Flaw.EXACT_DUPLICATE, 3),
    Recipe(Flaw.NEAR_DUPLICATE, 3, ("city",), _change_city),
)

PRODUCT_RECIPES: tuple[Recipe, ...] = (
    Recipe(
        Flaw.QUOTED_NEWLINE,
        3,
        ("name",),
        replace_by("Gift Box\nlarge", "Tea Sampler\n12 bags\nassorted", "Desk Lamp\r\nwarm white"),
    ),
    Recipe(Flaw.QUOTED_QUOTES, 2, ("name",), replace_by('Shelf 24", oak', '"Wild" Honey, 500 g')),
    Recipe(Flaw.UNKNOWN_WORD, 2, ("category",), replace_by("furniture", "misc", "Toyz")),
    Recipe(Flaw.CURRENCY_SIGN, 2, ("price",), add_sign),
    Recipe(Flaw.THOUSANDS_COMMA, 1, ("price",), group_by_commas),
    Recipe(Flaw.WRONG_TYPE, 1, ("price", "weight_kg"), replace_by(*WRONG_NUMBERS)),
    Recipe(Flaw.MISSING_KEY, 1, ("product_id",), empty),
    Recipe(Flaw.EMPTY_OPTIONAL, 1, ("weight_kg",), empty),
    Recipe(Flaw.EMPTY_DEFAULTED, 1, ("active",), empty),
    Recipe(Flaw.EXACT_DUPLICATE, 1),
    Recipe(Flaw.NEAR_DUPLICATE, 1, ("price",), _raise_price),
)


def sales_recipes(customers: int, products: int) -> tuple[Recipe, ...]:
    """Return what is spoilt in the sales of a shop with so many customers and products."""
    strangers = replace_by(*(str(customers + number) for number in range(1, 201)))
    novelties = replace_by(*(str(products + number) for number in range(1, 11)))
    return (
        Recipe(Flaw.SPACES, 50, ("order_id", "customer_id", "order_date", "channel"), surround),
        *date_recipes("order_date", 16),
        Recipe(Flaw.IMPOSSIBLE_DATE, 25, ("order_date",), replace_by(*IMPOSSIBLE_DATES)),
        Recipe(Flaw.THOUSANDS_COMMA, 20, ("unit_price",), group_by_commas),
        Recipe(Flaw.THOUSANDS_POINT, 15, ("unit_price",), group_by_points),
        Recipe(Flaw.CURRENCY_SIGN, 15, ("unit_price",), add_sign),
        Recipe(Flaw.WRONG_TYPE, 15, ("quantity", "unit_price"), replace_by(*WRONG_NUMBERS)),
        Recipe(Flaw.WRONG_TYPE, 10, ("quantity",), replace_by("2.5", "0.75")),
        Recipe(Flaw.MISSING_KEY, 20, ("order_id",), empty),
        Recipe(Flaw.MISSING_VALUE, 15, ("customer_id", "order_date", "unit_price"), empty),
        Recipe(Flaw.EMPTY_OPTIONAL, 20, ("channel",), empty),
        Recipe(Flaw.EMPTY_DEFAULTED, 20, ("discount",), empty),
        Recipe(Flaw.BELOW_RANGE, 25, ("quantity",), make_negative),
        Recipe(Flaw.ABOVE_RANGE, 20, ("quantity",), replace_by("10001", "99999", "1000000")),
        Recipe(Flaw.UNKNOWN_WORD, 15, ("channel",), replace_by("fax", "carrier pigeon", "WEB2")),
        Recipe(Flaw.UNKNOWN_MEMBER, 30, ("customer_id",), strangers),
        Recipe(Flaw.UNKNOWN_MEMBER, 5, ("product_id",), novelties),
        Recipe(Flaw.FIELD_TOO_MANY, 8),
        Recipe(Flaw.FIELD_TOO_FEW, 8),
        Recipe(Flaw.EXACT_DUPLICATE, 40),
        Recipe(Flaw.NEAR_DUPLICATE, 40, ("quantity",), _raise_quantity),
    )
