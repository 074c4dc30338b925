"""The SQL of each dataset, held in one file a dataset, so that a change of it is read in review.

After a change that is meant, write the files anew and look at their diff:

    python -m pytest tests/golden --update-golden
"""

import inspect
import itertools
from pathlib import Path

import pytest

from infra.postgres.merge_sql import MergeSql
from infra.postgres.session_sql import SessionSql, session_sql
from infra.postgres.tables import tables_of
from schemas.dataset import Dataset, Kind
from schemas.datasets import DATASETS

FOLDER = Path(__file__).parent


def statements(sql: MergeSql, of: type[MergeSql]) -> dict[str, str]:
    """Return every statement that the class can make for the dataset, by its method."""
    spec = sql.spec
    dates = [each for each in spec.columns if each.kind is Kind.DATE]
    values = {
        "reference": [(f"{each.name} ", each) for each in spec.references],
        "column": [(f"{each.name} ", each.name) for each in dates],
        "listed": [("given as $1", True), ("looked up", False)],
        "has_repeated": [("none repeated", False), ("some repeated", True)],
        "table": [("", f"{spec.table}__s20260102")],
        "into": [("", f"{spec.table}__s20260102")],
        "only_missing": [("", False), ("only missing", True)],
        "only_news": [("", False), (", only news", True)],
    }
    found = {}
    for name in sorted(each for each in vars(of) if not each.startswith("_")):
        method = getattr(sql, name)
        if not callable(method) or (name.endswith("_versions") and not sql.target.keeps_versions):
            continue
        if name == "upsert" and sql.target.surrogate:
            continue
        parameters = list(inspect.signature(method).parameters.values())
        for chosen in itertools.product(*(values[each.name] for each in parameters)):
            said = "".join(words for words, _ in chosen).strip()
            by_place = [v for (_, v), p in zip(chosen, parameters, strict=True) if not by_name(p)]
            named = {p.name: v for (_, v), p in zip(chosen, parameters, strict=True) if by_name(p)}
            made = method(*by_place, **named)
            text = made if isinstance(made, str) else ";\n".join(made)
            found[f"{name}: {said}" if said else name] = text
    return found


def by_name(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.KEYWORD_ONLY


def script(dataset: type[Dataset]) -> str:
    parts = [table.ddl for table in tables_of(dataset.spec)]
    spec = dataset.spec
    batch = statements(MergeSql(spec, f"{spec.table}__b1"), MergeSql)
    stream = {
        f"stream: {name}": text
        for of in (SessionSql, MergeSql)
        for name, text in statements(session_sql(spec), of).items()
        if of is SessionSql or name.startswith("judge")
    }
    parts += [f"-- {name}\n{text.strip()};\n" for name, text in (batch | stream).items()]
    return "\n".join("\n".join(line.rstrip() for line in each.split("\n")) for each in parts)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda each: each.spec.table)
def test_the_sql_of_a_dataset_is_what_was_reviewed(
    dataset: type[Dataset], request: pytest.FixtureRequest
) -> None:
    path = FOLDER / f"{dataset.spec.table}.sql"
    made = script(dataset)
    if request.config.getoption("--update-golden", default=False):
        path.write_text(made, encoding="utf-8")
    assert path.exists(), f"{path.name} is missing; run with --update-golden"
    assert made == path.read_text(encoding="utf-8")


def test_there_is_no_golden_file_without_a_dataset() -> None:
    files = {path.stem for path in FOLDER.glob("*.sql")}
    assert files == {each.spec.table for each in DATASETS}
