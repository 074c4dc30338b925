"""Where in a large sales file which row stands, and which flaw it carries: pure functions."""

from dataclasses import dataclass, field
from math import gcd

import numpy as np
import numpy.typing as npt

from infra.sample.flaws import Flaw, Outcome, Recipe
from infra.sample.planting import DUPLICATES
from infra.sample.shop import sales_recipes

Numbers = npt.NDArray[np.int64]
CLEAN = -1
_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 0xFFFFFFFFFFFFFFFF


def scatter(numbers: Numbers, seed: int, lane: int) -> npt.NDArray[np.uint64]:
    """Return a 64-bit number for each given one, as good as random (SplitMix64's finish).

    Other seeds and lanes give unrelated numbers.
    """
    start = np.uint64((seed * 0x632BE59BD9B4E019 + (lane + 1) * _GOLDEN) & _WORD)
    mixed = numbers.astype(np.uint64) * np.uint64(_GOLDEN) + start
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


@dataclass(frozen=True, slots=True)
class SalesPlan:
    """The plan of one file. A position counts records from 0, an order counts keys from 0."""

    rows: int
    seed: int
    customers: int
    products: int
    dirty_share: float
    shuffled: bool = False
    recipes: tuple[Recipe, ...] = field(init=False)
    """A flaw's code is its place here."""
    _weighted: Numbers = field(init=False, repr=False)
    """Every code as often as its recipe wants it."""

    def __post_init__(self) -> None:
        """Take the small sample's recipes with their counts as weights."""
        recipes = sales_recipes(self.customers, self.products)
        weights = [recipe.count for recipe in recipes]
        object.__setattr__(self, "recipes", recipes)
        object.__setattr__(self, "_weighted", np.repeat(np.arange(len(recipes)), weights))

    @property
    def _distance(self) -> int:
        """How far a duplicate stands behind the row it repeats: one distance, so none has two."""
        return max(1, self.rows // 3)

    @property
    def _stride(self) -> int:
        """A step that meets every position once before it meets one again."""
        stride = max(1, int(self.rows * 0.618))
        while gcd(stride, self.rows) != 1:
            stride += 1
        return stride if self.shuffled else 1

    def orders_at(self, positions: Numbers) -> Numbers:
        """Return which order stands at each position of the clean file."""
        return positions * self._stride % self.rows

    def _positions_of(self, orders: Numbers) -> Numbers:
        return orders * pow(self._stride, -1, self.rows) % self.rows

    def codes_at(self, positions: Numbers) -> Numbers:
        """Return the code of each position's flaw, or CLEAN."""
        codes = self._drawn(positions)
        repeating = np.flatnonzero(self._of(codes, *DUPLICATES))
        sources = positions[repeating] - self._distance
        unfit = (sources < 0) | (self._drawn(np.maximum(sources, 0)) != CLEAN)
        codes[repeating[unfit]] = CLEAN
        return codes

    def sources(self, positions: Numbers, codes: Numbers) -> Numbers:
        """Return the positions whose orders are written: a duplicate's is the one it repeats."""
        return np.where(self._of(codes, *DUPLICATES), positions - self._distance, positions)

    def revisions(self, codes: Numbers) -> Numbers:
        """Return 1 where the content differs from the row that is repeated, else 0."""
        return self._of(codes, Flaw.NEAR_DUPLICATE).astype(np.int64)

    def is_loaded(self, orders: Numbers) -> npt.NDArray[np.bool_]:
        """Return whether a first load of the dirty file leaves a row of each order."""
        codes = self.codes_at(self._positions_of(orders))
        harmless = [each.flaw for each in self.recipes if each.flaw.outcome is Outcome.LOADED]
        return self._of(codes, *harmless) | np.equal(codes, CLEAN)

    def _drawn(self, positions: Numbers) -> Numbers:
        """Return the codes as drawn, before duplicates without a fit source are let off."""
        gate = scatter(positions, self.seed, 100)
        flawed = gate < np.uint64(min(int(self.dirty_share * 2.0**64), _WORD))
        which = scatter(positions, self.seed, 101) % np.uint64(len(self._weighted))
        return np.where(flawed, self._weighted[which.astype(np.int64)], CLEAN)

    def _of(self, codes: Numbers, *flaws: Flaw) -> npt.NDArray[np.bool_]:
        wanted = [code for code, recipe in enumerate(self.recipes) if recipe.flaw in flaws]
        return np.isin(codes, wanted)
