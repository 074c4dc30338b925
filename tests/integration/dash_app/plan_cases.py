"""The dashboard's questions as its pages ask them, each with the index that it must go by."""

import datetime as dt
from collections.abc import Awaitable, Callable, Iterator
from itertools import product
from typing import Any

from dash_app.queries import (
    anomalies,
    data,
    janitor,
    logs,
    mails,
    overview,
    profiles,
    quality,
    quarantine,
    run,
    runs,
    stream,
    system,
)
from dash_app.queries.logs import Search
from dash_app.queries.quarantine import Choice
from dash_app.queries.runs import Wanted
from dash_app.queries.stream import Stream
from dash_app.reader import Reader
from tests.bench.dashboard_history import Size

UNTIL = dt.datetime.now(dt.UTC)
SIZE = Size(
    runs=1_000_000,
    health_minutes=210_000,
    lines=1_000_000,
    batches=120_000,
    letters=50_000,
    lag_hours=48,
    table_rows=6000,
    profiles=20_000,
    mails=6000,
    alerts=1000,  # no page asks for them
)
STREAM = Stream("stream_processor_group", "data-stream")
FAILED = frozenset({"FAILED"})

BY_START = "pipeline_executions_start_time_idx"
BY_PIPELINE = "pipeline_executions_pipeline_name_start_time_idx"
BY_FAILED = "pipeline_executions_start_time_idx1"
BY_DATASET = "quarantine_dataset_id_idx"

Ask = Callable[[Reader], Awaitable[Any]]
Case = tuple[Ask, str]
"""A question, and the index that it must go by where that matters most."""


def ago(**length: float) -> dt.datetime:
    return UNTIL - dt.timedelta(**length)


def day(days: int) -> dt.date:
    return ago(days=days).date()


def overview_cases() -> Iterator[Case]:
    yield lambda r: overview.summarise_recent(r, ago(days=1)), BY_START
    yield lambda r: overview.summarise_days(r, day(365)), ""
    yield overview.find_running, "pipeline_executions_pipeline_name_idx"
    yield lambda r: overview.count_since(r, ago(days=1)), BY_START
    yield lambda r: overview.count_by_hour(r, ago(days=1)), BY_START
    yield lambda r: overview.count_by_day(r, day(365)), ""
    yield lambda r: overview.count_rows_by_day(r, day(365)), ""
    yield lambda r: overview.find_timeline(r, ago(hours=6)), BY_START
    yield overview.find_last_loads, "dataset_counts_dataset_recorded_at_idx"
    yield overview.find_failed_pipelines, BY_PIPELINE
    yield lambda r: overview.find_lag(r, ago(minutes=10)), "stream_lag_pkey"
    yield lambda r: overview.count_open_letters(r, ago(days=1)), "dead_letters_buried_at_idx"
    for datasets in (["customers", "sales_data"], ["api_users"], ["nobody's"]):
        yield (
            lambda r, d=datasets: overview.find_refused(r, d, ago(days=1)),
            "source_files_dataset_",
        )
    yield lambda r: anomalies.find_recent(r, ago(days=1)), "anomalies_detected_at_idx"
    yield (
        lambda r: mails.find_stuck(r, ago(minutes=15), ago(days=1)),
        "mail_outbox_created_at_idx",
    )


def runs_cases() -> Iterator[Case]:
    yield runs.find_pipelines, "pipeline_executions_pipeline_name_"
    yield lambda r: runs.find_last_runs(r, ["check_health", "forget_person"]), BY_PIPELINE
    wanted = {
        "all": (Wanted(UNTIL), BY_START),
        "failed": (Wanted(UNTIL, states=FAILED), BY_FAILED),
        "two states": (Wanted(UNTIL, states=frozenset({"FAILED", "RUNNING"})), BY_FAILED),
        "pipeline": (Wanted(UNTIL, pipeline="prune_history"), BY_PIPELINE),
        "pipeline's failed": (Wanted(UNTIL, pipeline="check_health", states=FAILED), ""),
        "none of a pipeline": (Wanted(UNTIL, pipeline="forget_person", states=FAILED), ""),
        "no such pipeline": (Wanted(UNTIL, pipeline="nobody's"), BY_PIPELINE),
        "error": (Wanted(UNTIL, error="KAFKA"), BY_FAILED),
        "no such error": (Wanted(UNTIL, error="no run ever said this"), BY_FAILED),
        "long ago": (Wanted(UNTIL, since=ago(days=300), before=ago(days=290)), BY_START),
        "pipeline long ago": (
            Wanted(UNTIL, pipeline="check_health", before=ago(days=300)),
            BY_PIPELINE,
        ),
    }
    for (given, index), start in product(wanted.values(), (0, 9950)):
        for sort, is_descending in (("start", True), ("start", False), ("duration", True)):
            yield (
                lambda r, g=given, s=sort, d=is_descending, b=start: runs.find_runs(
                    r, g, sort=s, is_descending=d, start=b, end=b + 50
                ),
                index if sort == "start" and is_descending else "",
            )
    for given, index in wanted.values():
        yield lambda r, g=given: runs.count_runs(r, g), index


def run_cases() -> Iterator[Case]:
    for number in (SIZE.always_on, SIZE.runs, 10 * SIZE.runs):
        for ask, index in (
            (run.find_run, "pipeline_executions_pkey"),
            (run.find_error, "pipeline_executions_pkey"),
            (run.is_run, "pipeline_executions_pkey"),
            (run.find_ledger, "dataset_counts_execution_id_"),
            (run.sum_batches, "stream_batches_"),
            (run.find_files, "source_files_execution_id_"),
            (run.find_quality, "quality_results_execution_id_"),
            (run.count_quarantined, "quarantine_execution_id_"),
            (run.find_logs, "pipeline_logs_execution_id_"),
            (anomalies.find_of_run, "anomalies_execution_id_idx"),
            (janitor.find_acts_of, "janitor_acts_execution_id_idx"),
        ):
            yield lambda r, a=ask, n=number: a(r, n), index


def logs_cases() -> Iterator[Case]:
    searches = {
        Search(): "pipeline_logs_logged_at_idx",
        Search(level="INFO"): "pipeline_logs_logged_at_idx",
        Search(level="WARNING"): "pipeline_logs_level_logged_at_idx",
        Search(level="CRITICAL"): "pipeline_logs_level_logged_at_idx",
        Search(pipeline="daily_etl_pipeline"): "pipeline_logs_pipeline_name_logged_at_idx",
        Search(pipeline="nobody's"): "pipeline_logs_pipeline_name_logged_at_idx",
        Search(level="ERROR", pipeline="rotate_keys"): "",
        Search(execution_id=SIZE.always_on): "pipeline_logs_execution_id_logged_at_idx",
        Search(text="loaded"): "",
        Search(text="no line ever said this"): "",
        Search(level="ERROR", text="no line ever said this"): "",
    }
    for (search, index), until in product(searches.items(), (UNTIL, ago(days=60))):
        for first in (0, 9950):
            yield (
                lambda r, s=search, u=until, f=first: logs.find_lines(
                    r, s, until=u, first=f, count=50
                ),
                index,
            )
        yield lambda r, s=search, u=until: logs.find_reach(r, s, u), index
    yield lambda r: logs.find_line(r, 77), "pipeline_logs_pkey"
    yield logs.find_pipelines, "pipeline_logs_pipeline_name_logged_at_idx"


def quarantine_cases() -> Iterator[Case]:
    choices = {
        Choice(): "quarantine_pkey",
        Choice(dataset="sales_data"): BY_DATASET,
        Choice(dataset="nobody's"): "quarantine_dataset_",
        Choice(rule="missing"): "quarantine_dataset_rule_id_idx",
        Choice(dataset="customers", rule="type"): "quarantine_dataset_rule_id_idx",
        Choice(dataset="customers", rule="none"): "quarantine_dataset_rule_id_idx",
        Choice(execution=SIZE.always_on): "quarantine_execution_id_",
        Choice(dataset="customers", execution=12): "",
        Choice(text="nobody wrote this"): "quarantine_pkey",
    }
    for choice, index in choices.items():
        for start in (0, 9950):
            yield (
                lambda r, c=choice, s=start: quarantine.find_page(
                    r, c, until=UNTIL, start=s, end=s + 50
                ),
                index,
            )
        yield lambda r, c=choice: quarantine.count(r, c, until=UNTIL), index
        yield lambda r, c=choice: quarantine.find_before(r, c, before=90_000, limit=2000), ""
    yield lambda r: quarantine.find_one(r, 7), "quarantine_pkey"
    yield quarantine.find_choices, "quarantine_dataset_rule_id_idx"


def quality_cases() -> Iterator[Case]:
    yield quality.find_datasets, "source_files_dataset_id_idx"
    for dataset in ("sales_data", None):
        for ask in (
            quality.count_checked,
            quality.count_failed,
            quality.count_missing,
            quality.count_rows,
        ):
            yield lambda r, a=ask, d=dataset: a(r, d, day(365)), ""
    for datasets in (["sales_data", "customers"], ["api_users"], ["nobody's"]):
        yield lambda r, d=datasets: quality.find_drift(r, d, ago(days=90)), "source_files_"
    for dataset in (None, "sales_data", "nobody's"):
        yield lambda r, d=dataset: anomalies.find_newest(r, d, ago(days=90)), "anomalies_"
    yield profiles.find_last_dataset, "load_profiles_pkey"
    yield lambda r: profiles.describe_columns(r, SIZE.profiles, ["channel"]), "load_profiles_pkey"
    for dataset in ("sales_data", "customers", "nobody's"):
        yield lambda r, d=dataset: anomalies.find_marks(r, d, ago(days=90)), "anomalies_"
        for ask in (
            lambda r, d=dataset: profiles.find_loads(r, d),
            lambda r, d=dataset: profiles.chart_volume(r, d, day(89)),
        ):
            yield ask, "load_profiles_dataset_profiled_at_idx"
        yield lambda r, d=dataset: profiles.chart_missing(r, d, day(89)), ""


def stream_cases() -> Iterator[Case]:
    minute = dt.timedelta(minutes=8)
    yield lambda r: stream.choose_stream(r, None), ""
    yield stream.find_streams, ""
    yield lambda r: stream.find_partitions(r, STREAM), "stream_lag_pkey"
    yield (
        lambda r: stream.find_lag(r, STREAM, [0, 1, 2], since=ago(days=1), bucket=minute),
        "stream_lag_pkey",
    )
    yield (
        lambda r: stream.find_batches(r, STREAM, since=ago(days=1), bucket=minute),
        "stream_batches_",
    )
    yield lambda r: stream.find_last_batch(r, STREAM), "stream_batches_"
    yield lambda r: stream.count_letters(r, STREAM, ago(days=30)), "dead_letters_buried_at_idx"
    yield lambda r: stream.chart_letters(r, STREAM, ago(days=30), "day"), ""
    for reason, is_waiting, first in product(("", "json", "none"), (True, False), (0, 9950)):
        yield (
            lambda r, e=reason, w=is_waiting, f=first: stream.find_letters(
                r, STREAM, until=UNTIL, reason=e, is_waiting=w, first=f, count=50
            ),
            "dead_letters_buried_at_idx",
        )
    yield stream.count_unsent, ""


def system_cases() -> Iterator[Case]:
    yield system.find_checks, "health_checks_component_checked_at_idx"
    yield system.find_lives, "health_checks_component_checked_at_idx"
    lives = [system.Life("kafka", ago(days=140)), system.Life("disk", ago(days=140))]
    yield lambda r: system.sum_minutes(r, lives, [ago(days=1), ago(days=90)], UNTIL), ""
    for component in ("", "kafka"):
        yield lambda r, c=component: system.chart_minutes(r, c, ago(days=30), "day"), ""
    yield lambda r: system.find_windows(r, ago(days=30)), ""
    yield lambda r: system.find_window(r, 1), ""
    yield lambda r: system.find_overlapping(r, "kafka", ago(hours=1), UNTIL), ""
    yield lambda r: mails.count_mails(r, ago(days=1)), "mail_outbox_sent_at_idx"
    yield mails.find_newest_error, "mail_outbox_created_at_idx"
    yield janitor.find_acts, "janitor_acts_acted_at_idx"


def data_cases() -> Iterator[Case]:
    for dataset in ("sales_data", "customers", "nobody's"):
        yield lambda r, d=dataset: data.find_changes(r, [d]), "dataset_counts_dataset_"
        yield lambda r, d=dataset: data.count_by_day(r, d, day(90)), ""
        yield lambda r, d=dataset: data.count_by_source(r, d, day(90)), ""


CASES = (
    *(overview_cases, runs_cases, run_cases, logs_cases, quarantine_cases),
    *(quality_cases, stream_cases, system_cases, data_cases),
)
ELSEWHERE = {
    # The catalogue, and the staging and warehouse tables: not what grows with the history.
    *("find_tables", "find_table", "count_rows", "find_columns", "preview"),
    *("count_connections", "describe_server"),
    "set_window",  # changes something
}
