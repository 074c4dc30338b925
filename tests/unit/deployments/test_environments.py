"""What each process of the local stack is told."""

from deployments.environments import for_dashboard, for_exporter, for_watcher, for_worker

KEYS = {"SLUICEWAY_CELL_KEYS", "SLUICEWAY_INDEX_KEYS"}
ROLES = ("", "READER_", "MONITOR_", "ERASER_", "OWNER_")
URLS = [f"SLUICEWAY_{role}DATABASE_URL" for role in ROLES]
ENVIRONMENT = dict.fromkeys(
    [
        *URLS,
        *KEYS,
        "PREFECT_API_URL",
        "SLUICEWAY_KAFKA_PASSWORD",
        "SLUICEWAY_DASHBOARD_PORT",
        "SLUICEWAY_DASHBOARD_URL",
        "SLUICEWAY_PREFECT_UI_URL",
        "SLUICEWAY_EXPORTER_PORT",
    ],
    "set",
)


def test_the_dashboard_and_the_exporter_have_one_role_each_and_no_key() -> None:
    dashboard, exporter = for_dashboard(ENVIRONMENT), for_exporter(ENVIRONMENT)
    assert {*exporter} == {"SLUICEWAY_MONITOR_DATABASE_URL", "SLUICEWAY_EXPORTER_PORT"}
    assert {*dashboard} & {*URLS, *KEYS} == {"SLUICEWAY_READER_DATABASE_URL"}
    assert "SLUICEWAY_KAFKA_PASSWORD" not in dashboard


def test_flows_have_the_keys_and_the_loader_and_only_one_pool_the_eraser() -> None:
    loader, eraser = "SLUICEWAY_DATABASE_URL", "SLUICEWAY_ERASER_DATABASE_URL"
    assert {*for_worker(ENVIRONMENT)} & {*URLS, *KEYS} == {loader, *KEYS}
    assert {*for_worker(ENVIRONMENT, erases=True)} & {*URLS, *KEYS} == {loader, eraser, *KEYS}


def test_watchers_have_no_key_and_know_where_the_dashboard_is() -> None:
    told = for_watcher(ENVIRONMENT)
    assert {*told} & {*URLS, *KEYS} == {"SLUICEWAY_DATABASE_URL"}
    assert {"SLUICEWAY_DASHBOARD_PORT", "PREFECT_API_URL"} <= {*told}
    assert "SLUICEWAY_KAFKA_PASSWORD" not in told
    assert "SLUICEWAY_KAFKA_PASSWORD" in for_watcher(ENVIRONMENT, asks_kafka=True)
