"""A contract can demand that odd loads are rolled back; it is the same contract all the same."""

from dataclasses import replace

import pytest

from schemas.dataset import Dataset, Role, column, freeze
from schemas.datasets import DATASETS
from schemas.errors import ContractError


class Strict(Dataset, table="strict", role=Role.STAGING, refuse_anomalies=True):
    """One row per measurement."""

    value: int = column()


def test_the_keyword_is_in_the_spec_and_says_nothing_about_rows() -> None:
    assert Strict.spec.refuse_anomalies is True
    lenient = freeze(replace(Strict.spec, refuse_anomalies=False))
    assert lenient.contract_version == Strict.spec.contract_version
    assert not any(each.spec.refuse_anomalies for each in DATASETS)


def test_it_is_true_or_false() -> None:
    with pytest.raises(ContractError, match="Vague: refuse_anomalies is 'yes'; give True or False"):

        class Vague(Dataset, table="vague", role=Role.STAGING, refuse_anomalies="yes"):  # type: ignore[arg-type] # what a person may write
            """One row per measurement."""

            value: int = column()
