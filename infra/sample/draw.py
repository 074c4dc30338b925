"""Pseudo-random draws that come out the same under every Python version."""

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Draw:
    """A seeded source of choices, built on `Random.random()` alone: only that one never changes."""

    def __init__(self, seed: int) -> None:
        """Start the sequence that belongs to `seed`."""
        self._random = random.Random(seed)  # noqa: S311 - sample data, nothing secret

    def below(self, limit: int) -> int:
        """Return a whole number from 0 up to, but without, `limit`."""
        return int(self._random.random() * limit)

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of the items, each as likely as the others."""
        return items[self.below(len(items))]

    def distinct(self, count: int, limit: int) -> list[int]:
        """Return `count` different numbers below `limit`, in no order."""
        if count > limit:
            message = f"There are no {count} different numbers below {limit}; ask for fewer."
            raise ValueError(message)
        pool = list(range(limit))
        for place in range(count):
            other = place + self.below(limit - place)
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:count]
