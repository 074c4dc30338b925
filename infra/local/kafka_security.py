"""TLS and SCRAM for a local Apache Kafka: what its properties say, and whom its storage knows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECURED = "SASL_SSL"
MECHANISM = "SCRAM-SHA-512"
_BROKER = "broker"


@dataclass(frozen=True, slots=True)
class Security:
    """Who may log in, and the certificate that the brokers show."""

    certificate_file: Path
    key_file: Path
    ca_file: Path
    broker_password: str = field(repr=False)
    """What the brokers know each other by."""
    users: Mapping[str, str] = field(repr=False)
    """Passwords of clients by name; names and passwords without quotes, commas and brackets."""

    @property
    def properties(self) -> dict[str, str]:
        """What a node's file says beyond its listeners."""
        return {
            "sasl.enabled.mechanisms": MECHANISM,
            "sasl.mechanism.inter.broker.protocol": MECHANISM,
            f"listener.name.{SECURED.lower()}.{MECHANISM.lower()}.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required "
                f'username="{_BROKER}" password="{self.broker_password}";'
            ),
            # Controllers know no SCRAM: who has no certificate of the CA is not let in there.
            "listener.name.controller.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": self.certificate_file.read_text(encoding="utf-8"),
            "ssl.keystore.key": self.key_file.read_text(encoding="utf-8"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.certificates": self.ca_file.read_text(encoding="utf-8"),
        }

    @property
    def format_options(self) -> list[str]:
        """What the storage is formatted with, so that the first login is possible at all."""
        return [*self._scram({_BROKER: self.broker_password, **self.users})]

    @staticmethod
    def _scram(users: Mapping[str, str]) -> Iterator[str]:
        for name, password in users.items():
            yield from ("--add-scram", f"{MECHANISM}=[name={name},password={password}]")
