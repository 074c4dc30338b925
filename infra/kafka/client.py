"""How a client reaches Kafka, said once for consumers, producers and administration."""

import ssl
from typing import Any

import aiokafka.errors as kafka_errors

from infra.postgres.connection import LOOPBACK
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
        **_security_options(settings),
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "client_id": CLIENT_ID,
        # A broker that hangs is left for another after this long, not after aiokafka's 40 s.
        "request_timeout_ms": 15_000,
        "retry_backoff_ms": 200,
        "metadata_max_age_ms": 30_000,
    }


def login_hint(settings: Settings) -> str:
    """Return what else to look at where brokers are not reached: aiokafka does not say which."""
    if settings.kafka_security == "plaintext":
        return ""
    login = ", SLUICEWAY_KAFKA_USER and _PASSWORD" if settings.kafka_security == "sasl_ssl" else ""
    return f" and takes SLUICEWAY_KAFKA_CA_FILE{login}"


def _security_options(settings: Settings) -> dict[str, Any]:
    """Return how a client makes sure who answers, and says who it is."""
    security = settings.kafka_security
    if security == "plaintext":
        others = [host for host in _hosts_of(settings) if host not in LOOPBACK]
        if others:
            raise SettingError(
                f"Kafka at {others[0]} would be spoken to in clear: set SLUICEWAY_KAFKA_SECURITY "
                "to sasl_ssl (and SLUICEWAY_KAFKA_USER, SLUICEWAY_KAFKA_PASSWORD), or to ssl."
            )
        return {}
    try:
        # Certificate and host name are checked: that is this function's default.
        context = ssl.create_default_context(cafile=settings.kafka_ca_file)
    except OSError as error:
        raise SettingError(
            f"SLUICEWAY_KAFKA_CA_FILE cannot be read ({error}): name the PEM file of the CA."
        ) from error
    options: dict[str, Any] = {"security_protocol": security.upper(), "ssl_context": context}
    if security == "sasl_ssl":
        if not (settings.kafka_user and settings.kafka_password.get_secret_value()):
            raise SettingError(
                "SLUICEWAY_KAFKA_SECURITY is sasl_ssl, and nobody is named to log in: set "
                "SLUICEWAY_KAFKA_USER and SLUICEWAY_KAFKA_PASSWORD."
            )
        options |= {
            "sasl_mechanism": settings.kafka_scram,
            "sasl_plain_username": settings.kafka_user,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return options


def _hosts_of(settings: Settings) -> list[str]:
    servers = settings.kafka_bootstrap_servers.split(",")
    return [each.strip().rpartition(":")[0].strip("[]") for each in servers if each.strip()]
