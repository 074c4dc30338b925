"""Tells answers that show something from answers that only came fast; no I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx

from tests.bench.dashboard_browser import Answer
from tests.bench.server import BenchError

Json = Any
FAILED_SENTENCES = ("This could not be drawn", "PostgreSQL gave no answer", "The database is away")
"""How a chart begins that says why it could not be drawn."""
P95 = 0.95


@dataclass(slots=True)
class Measured:
    """The answers of one callback."""

    name: str
    page: str
    can_be_empty: bool = False
    seconds: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    empty: int = 0

    def add(self, answer: Answer, asked: str) -> None:
        """Take note of an answer; raises BenchError, naming the callback, where it is a failure."""
        if answer.status not in {httpx.codes.OK, httpx.codes.NO_CONTENT}:
            raise BenchError(f"{self.name} on {self.page} answered {answer.status} to {asked}")
        values = answer.values
        if failure := next(find_failures(values), None):
            raise BenchError(f"{self.name} on {self.page} answered {failure!r} to {asked}")
        self.seconds.append(answer.seconds)
        self.sizes.append(len(answer.body))
        # The first is what is shown; the others are what the page keeps for itself.
        self.empty += not shows_something(next(iter(values.values()), None))

    def refuse_emptiness(self) -> None:
        """Raise BenchError where no answer showed anything: a fast nothing is no result."""
        if self.empty == len(self.seconds) and not self.can_be_empty:
            raise BenchError(
                f"{self.name} on {self.page} showed nothing in {self.empty} answers: the history "
                "has nothing for it, or tests/bench/dashboard_inputs.py asks past it."
            )

    @property
    def p50_ms(self) -> float:
        """The middle one."""
        return median(self.seconds) * 1000

    @property
    def p95_ms(self) -> float:
        """What 95 of 100 stayed within, a measured one."""
        return rank(self.seconds, P95) * 1000

    def describe(self) -> str:
        """Return one line."""
        return (
            f"p95 {self.p95_ms:7.1f} ms  p50 {self.p50_ms:7.1f} ms  "
            f"most {max(self.seconds) * 1000:7.1f} ms  {median(self.sizes) / 1000:7.1f} kB"
            f"  {self.empty:2} empty  {self.page}  {self.name}"
        )


def rank(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    place = -(-len(ordered) * round(share * 100) // 100)
    return ordered[max(1, place) - 1]


def find_failures(given: Json) -> Iterator[str]:
    """Yield what an answer says of something that went wrong."""
    if isinstance(given, list):
        for each in given:
            yield from find_failures(each)
    elif isinstance(given, dict):
        if "failure" in str(given.get("className") or "").split():
            yield " ".join(find_texts(given)) or "a failure without a word"
        for each in given.get("annotations") or ():
            text = str(each.get("text", "")).replace("<br>", " ")
            if text.startswith(FAILED_SENTENCES):
                yield text
        for each in given.values():
            yield from find_failures(each)


def shows_something(value: Json) -> bool:
    """Tell whether a value of a property is more than the word that there is nothing."""
    if isinstance(value, dict) and {"data", "layout"} <= value.keys():
        return any(trace.get("x") or trace.get("z") or trace.get("y") for trace in value["data"])
    if isinstance(value, dict) and "rowData" in value:
        return bool(value["rowData"])
    if _is_word_of_emptiness(value):
        return False
    return bool(value) or value == 0


def find_texts(given: Json) -> Iterator[str]:
    """Yield the pieces of text in what was drawn."""
    if isinstance(given, str):
        yield given
    elif isinstance(given, list):
        for each in given:
            yield from find_texts(each)
    elif isinstance(given, dict):
        yield from find_texts(given.get("props", {}).get("children") or given.get("children"))


def _is_word_of_emptiness(value: Json) -> bool:
    if isinstance(value, list):
        shown = [each for each in value if each is not None]
        return bool(shown) and all(_is_word_of_emptiness(each) for each in shown)
    if not isinstance(value, dict):
        return False
    return "empty" in str(value.get("props", {}).get("className") or "").split()
