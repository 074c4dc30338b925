"""What the demo says of a run, and when it calls it short."""

import io
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from deployments.startup import render_environment
from deployments.summary import Counts, Report, Source, find_shortfalls, print_report

COUNTS = Counts("sales_data", 1000, 900, 10, 20, 5, 25, 40)
SOUND = Report(
    status="SUCCESS",
    seconds=1.25,
    warnings=("The API gave up after 4 attempts.",),
    counts=(COUNTS,),
    reasons={"sales_data": Counter({"quantity ge(1)": 30, "order_date format": 10})},
    sources=(
        Source("data/raw/sales_data.csv", "sales_data", "LOADED", 1000),
        Source("data/raw/products.csv", "products", "UNCHANGED"),
    ),
    warehouse={"fact_sales_data": 930},
)


def show(report: Report) -> str:
    text = io.StringIO()
    print_report(Console(file=text, width=80), report)
    return text.getvalue()


def test_a_sound_run_falls_short_of_nothing() -> None:
    assert find_shortfalls(SOUND) == []


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (replace(SOUND, status="FAILED", error_message="disk full"), "FAILED: disk full"),
        (replace(SOUND, sources=()), "no source at all"),
        (
            replace(SOUND, sources=(Source("a.csv", "a", "REFUSED", message="no header"),)),
            "a.csv was refused: no header",
        ),
        (replace(SOUND, counts=(replace(COUNTS, read=1001),)), "sales_data: 1001 rows were read"),
        (replace(SOUND, warehouse={"dim_x": 0}), "warehouse.dim_x is empty"),
    ],
)
def test_each_figure_that_falls_short_is_said(report: Report, sentence: str) -> None:
    found = find_shortfalls(report)
    assert len(found) == 1
    assert sentence in found[0]


def test_the_summary_fits_eighty_columns_and_holds_every_figure() -> None:
    shown = show(SOUND)
    for figure in ("1,000", "900", "10", "20", "5", "25", "40", "930"):
        assert f" {figure} " in shown
    assert "quantity ge(1) (30), order_date format (10)" in shown
    assert "Skipped as unchanged: products.csv" in shown
    assert "Warning: The API gave up after 4 attempts." in shown
    assert "SUCCESS in 1.2 s" in shown
    assert "…" not in shown


def test_file_names_with_markup_are_shown_as_they_are() -> None:
    odd = Source("data/raw/[bold]x.csv", "x", "UNCHANGED")
    assert "Skipped as unchanged: [bold]x.csv" in show(replace(SOUND, sources=(odd,)))


def test_environment_lines_survive_a_shell() -> None:
    assert render_environment({"A": "it's $HOME"}) == "export A='it'\"'\"'s $HOME'\n"
