"""A ledger balances or says by how much it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import LedgerError
from tasks.ledger import Ledger

TERMS = ("inserted", "updated", "unchanged", "superseded", "duplicates", "quarantined")
counts = st.fixed_dictionaries({name: st.integers(0, 1000) for name in TERMS})


@given(counts, st.integers(0, 50), st.integers(0, 50))
def test_a_ledger_balances_exactly_when_its_terms_add_up(
    terms: dict[str, int], filled: int, inferred: int
) -> None:
    total = sum(terms.values())
    Ledger(read=total, filled=filled, inferred=inferred, **terms).refuse_imbalance("a.csv")
    for read in (total + 1, total - 1):
        with pytest.raises(LedgerError):
            Ledger(read=read, filled=filled, inferred=inferred, **terms).refuse_imbalance("a.csv")


def test_an_imbalance_names_the_source_and_both_sums() -> None:
    with pytest.raises(LedgerError) as caught:
        Ledger(read=5, inserted=3, quarantined=1).refuse_imbalance("a.csv")
    message = str(caught.value)
    assert message.startswith("a.csv: 5 rows were read and 4 accounted for (")
    assert "inserted=3" in message
    assert "nothing was loaded" in message
    assert "\n" not in message


def test_loaded_are_the_rows_that_are_there_as_they_came() -> None:
    ledger = Ledger(inserted=1, updated=2, unchanged=4, superseded=8, duplicates=16, quarantined=32)
    assert ledger.loaded == 7
    assert ledger.accounted == 63


@given(counts, counts)
def test_ledgers_add_term_by_term(one: dict[str, int], other: dict[str, int]) -> None:
    total = Ledger(read=7, filled=1, **one) + Ledger(read=8, inferred=2, **other)
    assert total == Ledger(
        read=15, filled=1, inferred=2, **{name: one[name] + other[name] for name in TERMS}
    )
