"""Each panel of each dashboard has something to show, and counts are those of PostgreSQL."""

import asyncio
import json
import math
import re
import time
from typing import Any

import asyncpg
import pytest
import yaml

from infra.grafana.__main__ import FOLDER, make_files
from infra.local.process import wait_until
from tests.monitoring.conftest import Stage
from tests.monitoring.servers import CHECKOUT

DASHBOARDS = {path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}
PANELS = [
    pytest.param(name, panel, id=f"{name}: {panel['title']}")
    for name, dashboard in sorted(DASHBOARDS.items())
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]
LONGEST_TITLE = 45

# What a dashboard counts, and what the tables themselves say of it.
COUNTS = {
    "sum by (pipeline, status) (sluiceway_runs_total) > 0": """
        SELECT pipeline_name, status, count(*) FROM metadata.pipeline_executions
        WHERE status <> 'RUNNING' GROUP BY 1, 2""",
    "sum by (pipeline) (sluiceway_runs_running) > 0": """
        SELECT pipeline_name, count(*) FROM metadata.pipeline_executions
        WHERE status = 'RUNNING' GROUP BY 1""",
    "sum by (pipeline) (sluiceway_run_duration_seconds_count) > 0": """
        SELECT pipeline_name, count(*) FROM metadata.pipeline_executions
        WHERE status <> 'RUNNING' GROUP BY 1""",
    "sum by (pipeline) (sluiceway_records_processed_total) > 0": """
        SELECT pipeline_name, sum(records_processed) FROM metadata.pipeline_executions
        GROUP BY 1 HAVING sum(records_processed) > 0""",
    "sum by (dataset) (sluiceway_rows_read_total) > 0": """
        SELECT dataset, sum(read) FROM metadata.dataset_counts GROUP BY 1""",
    "sum by (dataset) (sluiceway_rows_loaded_total) > 0": """
        SELECT dataset, sum(inserted + updated + unchanged) FROM metadata.dataset_counts
        GROUP BY 1""",
    "sum by (dataset) (sluiceway_rows_duplicate_total) > 0": """
        SELECT dataset, sum(duplicates) FROM metadata.dataset_counts
        GROUP BY 1 HAVING sum(duplicates) > 0""",
    "sum by (dataset) (sluiceway_rows_quarantined_total) > 0": """
        SELECT dataset, count(*) FROM metadata.quarantine GROUP BY 1""",
    "sum by (dataset, rule) (sluiceway_quality_checked_total) > 0": """
        SELECT dataset, rule, sum(checked) FROM metadata.quality_results GROUP BY 1, 2""",
    "sum by (dataset, rule) (sluiceway_quality_failed_total) > 0": """
        SELECT dataset, rule, sum(failed) FROM metadata.quality_results
        GROUP BY 1, 2 HAVING sum(failed) > 0""",
    "sum by (dataset, rule, severity) (sluiceway_anomalies_total) > 0": """
        SELECT dataset, rule, severity, count(*) FROM metadata.anomalies GROUP BY 1, 2, 3""",
    "sum by (group, topic) (sluiceway_stream_messages_total)": """
        SELECT consumer_group, topic, sum(messages) FROM metadata.stream_batches GROUP BY 1, 2""",
    "sum by (group, topic) (sluiceway_stream_batches_total)": """
        SELECT consumer_group, topic, count(*) FROM metadata.stream_batches GROUP BY 1, 2""",
    "sum by (group, topic) (sluiceway_consumer_lag_messages)": """
        SELECT consumer_group, topic, sum(lag_messages) FROM (
            SELECT DISTINCT ON (partition) * FROM metadata.stream_lag
            ORDER BY partition, measured_at DESC
        ) AS newest GROUP BY 1, 2""",
    "sum by (reason) (sluiceway_dead_letters_total)": """
        SELECT reason, count(*) FROM metadata.dead_letters GROUP BY 1""",
    "sum(sluiceway_dead_letters_open)": """
        SELECT count(*) FROM metadata.dead_letters WHERE outcome IS DISTINCT FROM 'loaded'""",
    "sum by (act) (sluiceway_janitor_acts_total) > 0": """
        SELECT act, count(*) FROM metadata.janitor_acts GROUP BY 1""",
    "sum by (kind, severity) (sluiceway_alert_events_total) > 0": """
        SELECT kind, severity, count(*) FROM metadata.alert_events GROUP BY 1, 2""",
    'sum by (component, state) (sluiceway_component_minutes_total{state=~"good|bad"}) > 0': """
        SELECT component, lower(max(status)), count(DISTINCT date_trunc('minute', checked_at))
        FROM metadata.health_checks GROUP BY component, status""",
    "sum(sluiceway_mails_waiting)": """
        SELECT count(*) FROM metadata.mail_outbox
        WHERE sent_at IS NULL AND abandoned_at IS NULL""",
}


def resolve(expr: str) -> str:
    """Return the question as Grafana asks it when everything is chosen, of the last minutes."""
    for variable in ("pipeline", "dataset", "component", "group"):
        expr = expr.replace(f'"${variable}"', '".*"')
    expr = expr.replace("$__rate_interval", "2m").replace("$__range", "5m")
    assert "$" not in expr, expr
    return expr


def test_the_committed_dashboards_are_those_that_the_code_makes() -> None:
    assert make_files() == {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()}


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_panels_are_numbered_described_and_side_by_side(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert [each["id"] for each in panels] == list(range(1, len(panels) + 1))
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
        assert 0 < len(panel["title"]) <= LONGEST_TITLE
        assert panel["type"] == "row" or panel["description"].endswith(".")


def test_dashboards_and_their_datasource_know_each_other() -> None:
    assert sorted(DASHBOARDS) == ["pipelines", "quality", "stream", "system"]
    assert len({each["uid"] for each in DASHBOARDS.values()}) == 4
    folder = CHECKOUT / "infra" / "grafana" / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "sluiceway.yml").read_text("utf-8"))[
        "datasources"
    ]
    named = set(re.findall(r'"uid": "(sluiceway-prometheus)"', "".join(make_files().values())))
    assert named == {source["uid"]}
    scraped = yaml.safe_load((CHECKOUT / "infra/prometheus/prometheus.yml").read_text("utf-8"))
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_each_panel_has_something_to_show(stage: Stage, name: str, panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        expr = resolve(target["expr"])

        def look(expr: str = expr, target: dict[str, Any] = target) -> list[float]:
            if target["instant"]:
                found = [value for _, value in stage.prometheus.query(expr)]
            else:
                found = stage.prometheus.query_range(expr, time.time() - 60, time.time())
            return [value for value in found if math.isfinite(value)]

        assert wait_until(lambda look=look: bool(look()), 20), f"nothing for {expr}"
        if panel["fieldConfig"]["defaults"]["unit"] == "percentunit" and panel["type"] == "stat":
            assert all(0 <= value <= 1 for value in look()), expr


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_each_choice_has_values(stage: Stage, name: str) -> None:
    for variable in DASHBOARDS[name]["templating"]["list"]:
        match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
        assert match is not None
        metric, label = match.groups()
        values = stage.prometheus.ask(f"label/{label}/values", **{"match[]": metric})
        assert 0 < len(values) < 50
        assert f'=~"${variable["name"]}"' in json.dumps(DASHBOARDS[name]).replace('\\"', '"')


@pytest.mark.parametrize("expr", COUNTS)
def test_counts_are_those_of_the_tables(stage: Stage, expr: str) -> None:
    expected = asyncio.run(count(stage.database.owner_url, COUNTS[expr]))
    assert expected
    # The last scrape may be a second old.
    wait_until(lambda: stage.prometheus.figures(expr) == expected, 10)
    assert stage.prometheus.figures(expr) == expected


async def count(url: str, sql: str) -> dict[tuple[str, ...], float]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(sql)
    finally:
        await connection.close()
    return {tuple(row.values())[:-1]: float(tuple(row.values())[-1]) for row in rows}
