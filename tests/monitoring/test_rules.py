"""Every rule is checked by promtool, and every alert is seen to fire and to keep silent."""

import asyncio
import importlib.util
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from tests.monitoring.conftest import Stage
from tests.monitoring.servers import CHECKOUT, PROMETHEUS_FOLDER

RULES = sorted((PROMETHEUS_FOLDER / "rules").glob("*.yml"))
GUIDE = (CHECKOUT / "docs" / "operations.md").read_text("utf-8")
TESTS = sorted((PROMETHEUS_FOLDER / "rules" / "tests").glob("*.yml"))
SUPERVISED = {"check_health", "mark_dead_runs", "send_mail"}
"""They run every minute and are in no run history; other alerts watch them."""


def read_rules() -> list[dict[str, Any]]:
    """Return every rule of every file."""
    return [
        rule
        for path in RULES
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]


ALERTS = {rule["alert"]: rule for rule in read_rules() if "alert" in rule}
RECORDS = {rule["record"] for rule in read_rules() if "record" in rule}


def cases() -> Iterator[dict[str, Any]]:
    for path in TESTS:
        yield from yaml.safe_load(path.read_text("utf-8"))["tests"]


def run(program: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_one_that_prometheus_takes(programs: dict[str, str]) -> None:
    run(programs["promtool"], "check", "config", PROMETHEUS_FOLDER / "prometheus.yml")
    run(programs["promtool"], "check", "rules", "--lint=all", "--lint-fatal", *RULES)


@pytest.fixture(scope="module")
def verdicts(programs: dict[str, str]) -> dict[Path, subprocess.CompletedProcess[str]]:
    """What promtool says of each file of tests: as many at once as there are processors."""

    def judge(path: Path) -> subprocess.CompletedProcess[str]:
        command = [programs["promtool"], "test", "rules", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        return dict(zip(TESTS, executor.map(judge, TESTS), strict=True))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(
    verdicts: dict[Path, subprocess.CompletedProcess[str]], path: Path
) -> None:
    verdict = verdicts[path]
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_seen_to_fire_and_to_keep_silent(alert: str) -> None:
    said = [
        bool(check["exp_alerts"])
        for case in cases()
        for check in case.get("alert_rule_test", ())
        if check["alertname"] == alert
    ]
    assert True in said, f"no test sees {alert} fire"
    assert said.count(False) >= 2, f"hardly a test sees {alert} silent"


@pytest.mark.parametrize("record", sorted(RECORDS))
def test_each_recording_rule_is_seen_to_record(record: str) -> None:
    asked = [
        check["expr"]
        for case in cases()
        for check in case.get("promql_expr_test", ())
        if check["exp_samples"]
    ]
    pattern = re.compile(rf"{re.escape(record)}(?![\w:])")
    assert any(pattern.search(expr) for expr in asked), f"no test looks at {record}"


def test_no_alert_has_two_rules_and_no_test_is_of_an_alert_that_is_gone() -> None:
    names = Counter(rule["alert"] for rule in read_rules() if "alert" in rule)
    assert [name for name, count in names.items() if count > 1] == []
    tested = {check["alertname"] for case in cases() for check in case.get("alert_rule_test", ())}
    assert tested == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_says_how_bad_it_is_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert set(rule["labels"]) == {"severity", "area"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{alert.lower()}"


def test_each_alert_has_its_section_in_the_operations_guide_and_each_section_its_alert() -> None:
    part = GUIDE.split("\n## Alerts\n")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^### (.+)$", part, re.MULTILINE)) == sorted(ALERTS)


@pytest.mark.parametrize("module", sorted(set(re.findall(r"-m ((?:\w+\.)*\w+)", GUIDE))))
def test_each_command_of_the_guide_is_there(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


def test_each_query_of_the_guide_is_one_that_the_reader_may_ask(stage: Stage) -> None:
    queries = re.findall(r"```sql\n(.+?)```", GUIDE, re.DOTALL)
    assert len(queries) >= 5

    async def ask() -> None:
        connection = await asyncpg.connect(stage.database.reader_url)
        try:
            for query in queries:
                await connection.execute(query)
        finally:
            await connection.close()

    asyncio.run(ask())


def test_each_schedule_has_a_limit_for_the_time_without_success() -> None:
    deployments = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text("utf-8"))["deployments"]
    scheduled = {
        each["entrypoint"].split(":")[1] for each in deployments if each.get("schedules")
    } - SUPERVISED
    limited = {
        rule["labels"]["pipeline"]
        for rule in read_rules()
        if rule.get("record") == "pipeline:sluiceway_success_gap:limit_seconds"
    }
    assert scheduled <= limited


def test_rules_ask_for_metrics_that_there_are(stage: Stage) -> None:
    there = set(stage.prometheus.ask("label/__name__/values"))
    # These are there in trouble alone, or in the second hour.
    there |= {"component:sluiceway_bad:ratio1h", "component:sluiceway_bad:ratio6h"}
    there |= {"component:sluiceway_bad:ratio1d", "component:sluiceway_bad:ratio3d"}
    asked = {
        name
        for rule in read_rules()
        for name in re.findall(
            r"(?<![\w:\"])(?:\w+:)?sluiceway_\w+(?::\w+)?(?![\w\"])", rule["expr"]
        )
    }
    assert len(asked) > 30
    assert asked - there == set()


def test_every_rule_is_evaluated_without_an_error(stage: Stage) -> None:
    groups = stage.prometheus.ask("rules")["groups"]
    found = {
        rule["name"]: (rule["health"], rule.get("lastError", ""))
        for group in groups
        for rule in group["rules"]
    }
    assert set(found) == set(ALERTS) | RECORDS
    assert {name: state for name, state in found.items() if state[0] != "ok"} == {}
