"""What the stack's processes inherit from the shell: enough to run, nothing that misleads them.

Prefect's own variables are left out on purpose: a PREFECT_API_URL of the shell would send a local
run to somebody's production server. So are the keys, and the settings that say where PostgreSQL and
Kafka are: a stack has its own, and gives each to those of its processes that need it.
"""

import os
import sys
from pathlib import Path

STACK_MARK = "SLUICEWAY_STACK"
"""Every process of a stack carries its folder under this name, so that none is ever overlooked."""

INHERITED = frozenset(
    {
        "HOME",
        "LANG",
        "LANGUAGE",
        "LOGNAME",
        "PATH",
        "SHELL",
        "TERM",
        "TMPDIR",
        "TZ",
        "USER",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONUNBUFFERED",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    }
)
INHERITED_PREFIXES = ("LC_", "SLUICEWAY_")
GIVEN = frozenset(
    f"SLUICEWAY_{name}{ending}"
    for ending in ("", "_FILE")
    for name in (
        "DATABASE_URL",
        "DATABASE_BLOCK",
        "OWNER_DATABASE_URL",
        "READER_DATABASE_URL",
        "MONITOR_DATABASE_URL",
        "ERASER_DATABASE_URL",
        "CELL_KEYS",
        "INDEX_KEYS",
        "BACKUP_KEY",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_SECURITY",
        "KAFKA_CA_FILE",
        "KAFKA_USER",
        "KAFKA_PASSWORD",
        "KAFKA_SCRAM",
        "KAFKA_IDLE_PAUSE_SECONDS",
    )
)
"""What a process has only where the stack gives it."""


def inherit_environment(mark: str) -> dict[str, str]:
    """Return the environment every process of the stack starts from, with this Python first."""
    kept = {
        name: value
        for name, value in os.environ.items()  # passed on unread: infra.settings reads it
        if (name in INHERITED or name.startswith(INHERITED_PREFIXES)) and name not in GIVEN
    }
    bin_folder = str(Path(sys.executable).parent)
    kept["PATH"] = os.pathsep.join(filter(None, (bin_folder, kept.get("PATH"))))
    for name in ("NO_PROXY", "no_proxy"):  # a proxy cannot reach our loopback
        kept[name] = ",".join(filter(None, (kept.get(name), "127.0.0.1", "localhost")))
    return kept | {STACK_MARK: mark}
