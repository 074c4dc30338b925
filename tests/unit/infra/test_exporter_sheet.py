"""Families stay small whatever the tables say, and nothing is lost of their sums."""

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from infra.exporter.sheet import (
    LONGEST_LABEL,
    MOST_SERIES,
    MOST_VALUES,
    OTHER,
    Sheet,
    add,
)


def values_of(metric: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in metric.samples}


def test_each_label_has_so_many_values_and_the_rest_are_others() -> None:
    sheet = Sheet()
    many = 2 * MOST_VALUES
    sheet.counter("c", "C.", ("a", "b"), [((f"{n}", "one"), 1.0) for n in range(many)])
    [metric] = sheet.metrics
    values = values_of(metric)
    assert len(values) == MOST_VALUES + 1
    assert values[OTHER, "one"] == many - MOST_VALUES
    assert values["0", "one"] == 1
    assert sum(values.values()) == many
    assert sheet.dropped == many - MOST_VALUES


def test_a_family_has_so_many_series_however_its_labels_are_mixed() -> None:
    sheet = Sheet()
    sheet.gauge(
        "g",
        "G.",
        ("a", "b"),
        [((f"{a}", f"{b}"), 1.0) for a in range(MOST_VALUES) for b in range(MOST_VALUES)],
        combine=add,
    )
    values = values_of(sheet.metrics[0])
    assert len(values) == MOST_SERIES + 1
    assert values[OTHER, OTHER] == MOST_VALUES**2 - MOST_SERIES
    assert sheet.dropped == MOST_VALUES**2 - MOST_SERIES


def test_rows_of_the_same_labels_become_one() -> None:
    sheet = Sheet()
    rows = [(("a",), 1.0), (("b",), 5.0), (("a",), 2.0), (("a",), 1.5)]
    sheet.counter("c", "C.", ("x",), rows)
    sheet.gauge("most", "M.", ("x",), rows)
    sheet.gauge("least", "L.", ("x",), rows, combine=min)
    found = [values_of(each) for each in sheet.metrics]
    assert [each[("a",)] for each in found] == [4.5, 2.0, 1.0]
    assert [each[("b",)] for each in found] == [5.0, 5.0, 5.0]
    assert sheet.dropped == 0


def test_a_long_label_is_cut_and_the_cut_ones_are_one() -> None:
    sheet = Sheet()
    name = "x" * LONGEST_LABEL
    sheet.counter("c", "C.", ("x",), [((name,), 1.0), ((name + "a",), 2.0), ((name + "b",), 3.0)])
    assert values_of(sheet.metrics[0]) == {
        (name,): 1.0, ("x" * (LONGEST_LABEL - 1) + "…",): 5.0,
    }  # fmt: skip


def test_a_histogram_adds_up_towards_its_end() -> None:
    sheet = Sheet()
    sheet.histogram(
        "h", "H.", ("x",), [(("a",), {1.0: 2.0, 4.0: 3.0, 8.0: 1.0}, 17.5)], bounds=(1.0, 2.0, 4.0)
    )
    found = {
        (sample.name, sample.labels.get("le", "")): sample.value
        for sample in sheet.metrics[0].samples
    }
    assert found == {
        ("h_seconds_bucket", "1.0"): 2,
        ("h_seconds_bucket", "2.0"): 2,
        ("h_seconds_bucket", "4.0"): 5,
        # Eight is above every bound.
        ("h_seconds_bucket", "+Inf"): 6,
        ("h_seconds_count", ""): 6,
        ("h_seconds_sum", ""): 17.5,
    }


def test_histograms_of_those_that_came_too_late_are_one() -> None:
    sheet = Sheet()
    many = MOST_VALUES + 3
    sheet.histogram(
        "h", "H.", ("x",), [((f"{n}",), {1.0: 1.0}, 0.5) for n in range(many)], bounds=(1.0,)
    )
    found = {
        sample.labels["x"]: sample.value
        for sample in sheet.metrics[0].samples
        if sample.name.endswith("_sum")
    }
    assert found[OTHER] == 1.5
    assert len(found) == MOST_VALUES + 1


def test_what_was_taken_from_another_sheet_is_registered_like_any_metric() -> None:
    sheet, part = Sheet(), Sheet()
    part.gauge("g", "G.", (), [((), 3)])
    sheet.take(part)

    class Found:
        def collect(self) -> list[Metric]:
            return sheet.metrics

    registry = CollectorRegistry()
    registry.register(Found())  # type: ignore[arg-type]
    assert registry.get_sample_value("g") == 3
