"""What each process of the local stack is told: what it needs, and nothing that only others need.

The dashboard and the exporter cannot read a personal cell: they have no key.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from infra.local.certificates import SERVICES
from infra.local.ports import LOOPBACK
from infra.local.stack import DATABASE, Stack
from infra.postgres.apply import ERASER, LOADER, MONITOR
from infra.postgres.rights import READER
from infra.settings import Settings, read_settings

SAMPLE_API = "sample-api"
"""The process that plays somebody's HTTP API, and its port."""
EXPORTER_PORT = "SLUICEWAY_EXPORTER_PORT"
DASHBOARD_PORT = "SLUICEWAY_DASHBOARD_PORT"
_FOR_PEOPLE = ("SLUICEWAY_PREFECT_UI_URL", "SLUICEWAY_DASHBOARD_URL")
_FOR_DASHBOARD = ("SLUICEWAY_READER_DATABASE_URL", DASHBOARD_PORT, *_FOR_PEOPLE)
_FOR_EXPORTER = ("SLUICEWAY_MONITOR_DATABASE_URL", EXPORTER_PORT)
_FOR_DEPLOYMENTS = ("SLUICEWAY_OWNER_DATABASE_URL",)
_FOR_ERASING = ("SLUICEWAY_ERASER_DATABASE_URL",)
_KEYS = ("SLUICEWAY_CELL_KEYS", "SLUICEWAY_INDEX_KEYS")
_KAFKA_LOGIN = ("SLUICEWAY_KAFKA_USER", "SLUICEWAY_KAFKA_PASSWORD")
_NOT_FOR_FLOWS = {
    *_FOR_DEPLOYMENTS,
    *_FOR_ERASING,
    *(name for name in (*_FOR_DASHBOARD, *_FOR_EXPORTER) if name not in _FOR_PEOPLE),
}


def make_environment(stack: Stack) -> dict[str, str]:
    """Return all that reaches the stack, for the person whose stack it is.

    Its broker runs already.
    """
    folder = stack.folder
    client = stack.client_environment
    scheme = "https" if stack.certificates else "http"
    dashboard = folder.port("dashboard")
    return {
        **client,
        **stack.broker_environment,
        "SLUICEWAY_DATABASE_URL": _database_url(stack, LOADER),
        "SLUICEWAY_READER_DATABASE_URL": _database_url(stack, READER),
        "SLUICEWAY_MONITOR_DATABASE_URL": _database_url(stack, MONITOR),
        "SLUICEWAY_ERASER_DATABASE_URL": _database_url(stack, ERASER),
        "SLUICEWAY_OWNER_DATABASE_URL": stack.owner_url,
        **stack.personal_keys,
        "SLUICEWAY_API_ENDPOINTS": json.dumps(
            [f"http://{LOOPBACK}:{folder.port(SAMPLE_API)}/users"]
        ),
        "SLUICEWAY_PREFECT_UI_URL": client["PREFECT_API_URL"].removesuffix("/api"),
        DASHBOARD_PORT: str(dashboard),
        "SLUICEWAY_DASHBOARD_URL": f"{scheme}://{LOOPBACK}:{dashboard}",
        EXPORTER_PORT: str(folder.port("exporter")),
    }


def read_broker_settings(environment: Mapping[str, str]) -> Settings:
    """Return this process's settings, with that environment's way to the broker for its own."""
    given = {
        name: environment.get(f"SLUICEWAY_{name.upper()}", "")
        for name in ("kafka_bootstrap_servers", "kafka_security", "kafka_user")
    }
    if scram := environment.get("SLUICEWAY_KAFKA_SCRAM"):
        given["kafka_scram"] = scram
    ca_file = environment.get("SLUICEWAY_KAFKA_CA_FILE")
    return read_settings().model_copy(
        update={
            **given,
            "kafka_ca_file": Path(ca_file) if ca_file else None,
            "kafka_password": SecretStr(environment.get("SLUICEWAY_KAFKA_PASSWORD", "")),
        }
    )


def certificates_environment(stack: Stack) -> dict[str, str]:
    """Return whose expiry the health checks watch; nothing where the stack speaks in clear."""
    if stack.certificates is None:
        return {}
    files = [stack.certificates.ca_file]
    files += [stack.certificates.pair(each).certificate_file for each in SERVICES]
    return {"SLUICEWAY_HEALTH_CERTIFICATES": json.dumps([str(each) for each in files])}


def for_worker(environment: Mapping[str, str], *, erases: bool = False) -> dict[str, str]:
    """Return what a worker and its flow runs are told; erases: `forget_person` is among them."""
    refused = _NOT_FOR_FLOWS - ({*_FOR_ERASING} if erases else set())
    return {name: value for name, value in environment.items() if name not in refused}


def for_watcher(environment: Mapping[str, str], *, asks_kafka: bool = False) -> dict[str, str]:
    """Return what is told to who looks after runs, mails and consumers, and reads no row."""
    told = {**for_worker(environment), DASHBOARD_PORT: environment[DASHBOARD_PORT]}
    refused = _KEYS if asks_kafka else (*_KEYS, *_KAFKA_LOGIN)
    return {name: value for name, value in told.items() if name not in refused}


def for_dashboard(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the dashboard is told."""
    return {name: environment[name] for name in _FOR_DASHBOARD}


def for_exporter(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the exporter of metrics is told."""
    return {name: environment[name] for name in _FOR_EXPORTER}


def _database_url(stack: Stack, role: str) -> str:
    return stack.postgres.url(DATABASE, user=role, password=stack.folder.secret(role))
