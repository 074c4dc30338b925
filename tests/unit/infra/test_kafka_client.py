"""How a client is told to reach Kafka: never in clear beyond this machine, never unchecked."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.client import connection_options
from infra.settings import Settings
from infra.tls.authority import Authority
from schemas.errors import SettingError


def options(servers: str = "kafka.example:9093", **given: Any) -> dict[str, Any]:
    return connection_options(Settings(kafka_bootstrap_servers=servers, **given))


@pytest.mark.parametrize("servers", ["127.0.0.1:1", "localhost:1, 127.0.0.1:2", "[::1]:9092"])
def test_brokers_of_this_machine_may_be_spoken_to_in_clear(servers: str) -> None:
    assert "security_protocol" not in options(servers)


@pytest.mark.parametrize("servers", ["kafka.example:9092", "127.0.0.1:1,kafka.example:9092"])
def test_others_may_not(servers: str) -> None:
    with pytest.raises(SettingError, match=r"Kafka at kafka\.example would be spoken to in clear"):
        options(servers)


def test_a_broker_is_checked_by_its_certificate_and_its_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    made = options(kafka_security="ssl", kafka_ca_file=authority.certificate_file)
    assert made["security_protocol"] == "SSL"
    assert made["ssl_context"].check_hostname
    assert made["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    # That CA and no other.
    assert len(made["ssl_context"].get_ca_certs()) == 1


def test_a_login_needs_a_name_and_a_password() -> None:
    given: dict[str, Any] = {"kafka_security": "sasl_ssl", "kafka_user": "sluiceway"}
    with pytest.raises(SettingError, match="nobody is named to log in"):
        options(**given)
    made = options(**given, kafka_password="secret")
    assert (made["sasl_mechanism"], made["sasl_plain_username"], made["sasl_plain_password"]) == (
        "SCRAM-SHA-512",
        "sluiceway",
        "secret",
    )


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="SLUICEWAY_KAFKA_CA_FILE cannot be read"):
        options(kafka_security="ssl", kafka_ca_file=tmp_path / "absent.pem")
    (tmp_path / "rubbish.pem").write_text("rubbish")
    with pytest.raises(SettingError, match="SLUICEWAY_KAFKA_CA_FILE cannot be read"):
        options(kafka_security="ssl", kafka_ca_file=tmp_path / "rubbish.pem")
