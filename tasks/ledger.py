"""What became of every row of a load; the terms must add up to what was read."""

from dataclasses import dataclass

from schemas.errors import LedgerError


@dataclass(frozen=True, slots=True)
class Ledger:
    """Counts of rows, each taken where it happened; none is worked out from the others."""

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    """Came with an older version than the row that is there."""
    duplicates: int = 0
    """Said the same as the row of the same load that won their key."""
    quarantined: int = 0
    filled: int = 0
    """Cells, not rows: missing values that the contract's default filled in."""
    inferred: int = 0
    """Members added to dimensions for rows that were named before they arrived."""

    @property
    def loaded(self) -> int:
        """Rows that are in the tables as this load brought them."""
        return self.inserted + self.updated + self.unchanged

    @property
    def accounted(self) -> int:
        """The sum of what became of rows."""
        return self.loaded + self.superseded + self.duplicates + self.quarantined

    def refuse_imbalance(self, source: str) -> None:
        """Raise LedgerError unless every row read is accounted for."""
        if self.read != self.accounted:
            raise LedgerError(
                f"{source}: {self.read} rows were read and {self.accounted} accounted for "
                f"({self}); nothing was loaded: please report this with the file."
            )

    def __add__(self, other: "Ledger") -> "Ledger":
        """Add term by term."""
        return Ledger(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__slots__}
        )
