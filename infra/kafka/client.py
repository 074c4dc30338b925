"""How a client reaches Kafka, said once for consumers, producers and administration."""

from typing import Any

import aiokafka.errors as kafka_errors

from infra.settings import Settings
from schemas.errors import SettingError

CLIENT_ID = "sluiceway"

UNREACHABLE = (
    kafka_errors.KafkaConnectionError,
    kafka_errors.NodeNotReadyError,
    kafka_errors.KafkaTimeoutError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.LeaderNotAvailableError,
    kafka_errors.NotLeaderForPartitionError,
    kafka_errors.StaleMetadata,
    ConnectionError,
    TimeoutError,
    OSError,
)
"""What Kafka or the way to it can raise that may be gone at the next try."""


def require_kafka(settings: Settings) -> None:
    """Raise SettingError when no setting says where Kafka is; asks nobody."""
    if not settings.kafka_bootstrap_servers:
        raise SettingError(
            "No Kafka is named: set SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS to host:port of its brokers, "
            "separated by commas."
        )


def connection_options(settings: Settings) -> dict[str, Any]:
    """Return what every aiokafka client is given to find the brokers.

    Raises SettingError when no setting names them.
    """
    require_kafka(settings)
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "client_id": CLIENT_ID,
        # A broker that hangs is left for another after this long, not after aiokafka's 40 s.
        "request_timeout_ms": 15_000,
        "retry_backoff_ms": 200,
        "metadata_max_age_ms": 30_000,
    }
