"""The changes that turn a clean cell into a flawed one."""

import datetime as dt
from collections.abc import Callable

from infra.sample.draw import Draw
from infra.sample.flaws import Flaw, Recipe, Written
from infra.sample.words import MONTHS

Change = Callable[[str, Draw], Written]

IMPOSSIBLE_DATES = ("2025-02-30", "31/04/2025", "2024-13-01", "0000-00-00", "32.01.2025")
WRONG_NUMBERS = ("twelve", "many", "x17", "see note")


def surround(text: str, draw: Draw) -> Written:
    """Put spaces or a tab around the text."""
    before, after = draw.pick((("  ", " "), (" ", ""), ("", "   "), ("\t", " ")))
    return Written(f"{before}{text}{after}", text)


def empty(_text: str, _draw: Draw) -> Written:
    """Leave nothing."""
    return Written("", "")


def replace_by(*texts: str) -> Change:
    """Put one of these texts in the cell's place; it is what a reader should find there."""

    def change(_text: str, draw: Draw) -> Written:
        text = draw.pick(texts)
        return Written(text, text)

    return change


def make_negative(text: str, _draw: Draw) -> Written:
    """Put a minus before the number; a zero becomes -1."""
    return Written(f"-{text}" if float(text) else "-1", text)


def add_sign(text: str, draw: Draw) -> Written:
    """Write the amount with a currency, which the contract does not know."""
    return Written(draw.pick(("${}", "€{}", "{} EUR", "£{}")).format(text), text)


def group_by_commas(_text: str, draw: Draw) -> Written:
    """Write an amount above a thousand as 1,234.50."""
    units, cents = 1000 + draw.below(8000), draw.below(100)
    return Written(f"{units:,}.{cents:02}", f"{units}.{cents:02}")


def group_by_points(_text: str, draw: Draw) -> Written:
    """Write an amount above a thousand as 1.234,50."""
    units, cents = 1000 + draw.below(8000), draw.below(100)
    return Written(f"{units:,}".replace(",", ".") + f",{cents:02}", f"{units}.{cents:02}")


def break_email(text: str, draw: Draw) -> Written:
    """Write an address no mail can reach."""
    user, domain = text.split("@")
    broken = (f"{user}.{domain}", f"{user}@@{domain}", f"{user}@localhost", f"{user} @{domain}")
    return Written(draw.pick(broken), text)


def _slashes(day: dt.date) -> str:
    return f"{day.day:02}/{day.month:02}/{day.year}"


def _points(day: dt.date) -> str:
    return f"{day.day:02}.{day.month:02}.{day.year}"


def _year_slashes(day: dt.date) -> str:
    return f"{day.year}/{day.month:02}/{day.day:02}"


def _month_name(day: dt.date) -> str:
    return f"{day.day:02}-{MONTHS[day.month - 1]}-{day.year}"


def _american(day: dt.date) -> str:
    return f"{MONTHS[day.month - 1]} {day.day:02}, {day.year}"


def date_recipes(column: str, count: int) -> tuple[Recipe, ...]:
    """Return a recipe for each of the other formats an export may write a date in."""

    def write(form: Callable[[dt.date], str]) -> Change:
        return lambda text, _draw: Written(form(dt.date.fromisoformat(text)), text)

    forms = (_slashes, _points, _year_slashes, _month_name, _american)
    return tuple(Recipe(Flaw.DATE_FORMAT, count, (column,), write(form)) for form in forms)
