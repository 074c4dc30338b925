"""The settings: the environment's SLUICEWAY_ variables, then `.env`, then a YAML file.

Any of them may stand in a file of its own, as Docker and Kubernetes mount secrets:
SLUICEWAY_DATABASE_URL_FILE names the file that holds SLUICEWAY_DATABASE_URL. The variable itself
goes before. This module is the only reader of the environment.
"""

import difflib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PostgresDsn,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from infra.endpoints import Endpoint
from schemas.errors import SettingError

PREFIX = "SLUICEWAY_"
OTHER_VARIABLES = frozenset(
    f"{PREFIX}{name}"
    for name in ("CHECKOUT", "STACK", "REQUIRE_SYSTEM", "CHAOS_SEED", "CHAOS_ROWS")
)
"""What the local stack and the tests set for themselves."""
_FILE = "_FILE"
SETTINGS_FILE = Path("deployments/settings.yaml")
DEFAULT_ENDPOINTS = (Endpoint.model_validate("https://jsonplaceholder.typicode.com/users"),)

_JSON_EXAMPLES = {
    "api_endpoints": 'a list as ["https://api.example/users"]',
    "mail_to": 'a list as ["ops@example.com"]',
    "mail_success_of": 'a list as ["daily_etl_pipeline"]',
    "notify_urls": 'a list as ["ntfy://example"]',
    "health_certificates": 'a list as ["db.example:5432", "/etc/tls/kafka.pem"]',
    "dashboard_users": 'an object as {"eve": {"password_hash": "scrypt:…", "role": "viewer"}}',
}


class DashboardUser(BaseModel):
    """Who may log in to the dashboard, and as what."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    password_hash: SecretStr
    role: Literal["viewer", "operator"] = "viewer"
    """Operators also set maintenance windows and export the quarantine."""


class Settings(BaseSettings):
    """Every setting, with its default. `SLUICEWAY_RAW_FOLDER` sets `raw_folder`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        yaml_file=SETTINGS_FILE,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: SecretStr = SecretStr("")
    """postgresql://user:password@host:port/database, as the loader role."""
    database_block: str = ""
    """Name of a Prefect block AsyncSqlAlchemyConnector to take the database's address from."""
    owner_database_url: SecretStr = SecretStr("")
    """The same database as a role that may create roles and tables; only `deployments` reads it."""
    reader_database_url: SecretStr = SecretStr("")
    """The same database as the role sluiceway_reader; only the dashboard reads it."""
    monitor_database_url: SecretStr = SecretStr("")
    """The same database as the role sluiceway_monitor; only the exporter of metrics reads it."""
    eraser_database_url: SecretStr = SecretStr("")
    """The same database as the role sluiceway_eraser; only `forget_person` reads it."""
    cell_keys: SecretStr = SecretStr("")
    """What personal cells are encrypted with, as name=key, separated by commas or blanks: the first
    writes, the others are still read. `python -m infra.cell_keys` makes one."""
    index_keys: SecretStr = SecretStr("")
    """What personal cells are found by: keys written as above, and none of those."""
    backup_key: SecretStr = SecretStr("")
    """What backups are encrypted with: 32 random bytes in base64; only `deployments` reads it."""
    pool_size: int = Field(default=20, ge=2, le=100)
    """Connections per process."""
    connect_timeout_seconds: float = Field(default=60.0, gt=0)
    """How long a process waits for a free connection of the role before it gives up."""
    raw_folder: Path = Path("data/raw")
    api_endpoints: tuple[Endpoint, ...] = DEFAULT_ENDPOINTS
    concurrent_files: int = Field(default=4, ge=1, le=20)
    """Files one run loads at the same time."""
    staging_retention_days: int = Field(default=30, ge=1)
    kafka_bootstrap_servers: str = ""
    """host:port of Kafka's brokers, separated by commas."""
    kafka_security: Literal["plaintext", "ssl", "sasl_ssl"] = "plaintext"
    """`sasl_ssl` logs in over TLS with SCRAM; `plaintext` is for brokers on this machine."""
    kafka_ca_file: Path | None = None
    """The certificate of a private CA; by default the system's CAs are trusted."""
    kafka_user: str = ""
    kafka_password: SecretStr = SecretStr("")
    kafka_scram: Literal["SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_topic: str = "data-stream"
    kafka_dead_letter_topic: str = "data-stream.dlq"
    kafka_group: str = "stream_processor_group"
    kafka_start_from: Literal["earliest", "latest"] = "earliest"
    """Where a group begins that has read nothing of a partition yet."""
    kafka_session_timeout_seconds: float = Field(default=10.0, ge=6)
    """How long a consumer may be silent before its partitions go to others."""
    kafka_idle_pause_seconds: float = Field(default=0.0, ge=0, le=5)
    """How long to ask an idle broker for nothing; for the embedded one, which answers a fetch at
    once, empty. Where it is set, Kafka is not told what was loaded, and the keeper's consumers are
    static members."""
    stream_batch_messages: int = Field(default=20_000, ge=1, le=200_000)
    """A micro-batch is full with so many messages, or"""
    stream_batch_seconds: float = Field(default=0.5, gt=0, le=60)
    """so long after its first one came, whichever is earlier."""
    stream_consumers: int = Field(default=1, ge=0, le=100)
    """How many consumers the keeper has alive at all times."""
    dashboard_host: str = "127.0.0.1"
    """The address the dashboard listens on; any but a loopback one needs users to log in."""
    dashboard_port: int = Field(default=8050, ge=0, le=65535)
    dashboard_users: dict[str, DashboardUser] = Field(default_factory=dict)
    """By name; `python -m dash_app.access.passwords` makes a password's hash."""
    dashboard_secret: SecretStr = SecretStr("")
    """What sessions are signed with; who changes it logs everybody out."""
    prefect_ui_url: str = ""
    """Where a person's browser finds the Prefect UI; empty: no links to it."""
    dashboard_url: str = ""
    """Where a person's browser finds the dashboard; empty: no links to it in mails."""
    exporter_host: str = "127.0.0.1"
    exporter_port: int = Field(default=9108, ge=0, le=65535)
    smtp_host: str = ""
    """The mail server; empty: no mail is sent, and alerts stay in metadata.alert_events."""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """`none` sends in clear, and only to this machine."""
    smtp_ca_file: Path | None = None
    """The certificate of a private CA; by default the system's CAs are trusted."""
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    mail_from: str = "sluiceway@localhost"
    mail_to: tuple[str, ...] = ()
    mail_minutes: int = Field(default=15, ge=1, le=1440)
    """At most one mail about one problem in so many minutes; it counts what happened since."""
    mails_per_hour: int = Field(default=20, ge=1, le=1000)
    """At most so many mails in an hour about all problems together; one digest has the rest."""
    mail_success_of: tuple[str, ...] = ()
    """Pipelines whose success is told too, with the ledger."""
    notify_urls: tuple[SecretStr, ...] = ()
    """Further channels, as URLs of Apprise: mmost://…, slack://…, ntfy://…"""
    health_timeout_seconds: float = Field(default=10.0, gt=0, le=50)
    """How long one health check may take before it is BAD."""
    health_alert_after: int = Field(default=3, ge=1)
    """Bad minutes in a row before somebody is told."""
    health_free_disk_percent: float = Field(default=10.0, ge=0, le=100)
    """BAD below; of the volumes of the data, of the log folder and of the raw folder."""
    health_free_memory_percent: float = Field(default=5.0, ge=0, le=100)
    health_cpu_percent: float = Field(default=95.0, gt=0, le=100)
    """BAD above, as the average of five minutes."""
    health_lag_seconds: float = Field(default=300.0, gt=0)
    health_certificates: tuple[str, ...] = ()
    """Whose expiry is watched: files in PEM, or host:port of TLS services."""
    health_certificate_days: int = Field(default=14, ge=1)
    log_retention_days: int = Field(default=30, ge=1)
    """Of metadata.pipeline_logs."""
    check_retention_days: int = Field(default=90, ge=2)
    """Of health checks, quality results, alert events and mails; rollups of them stay."""
    quarantine_retention_days: int = Field(default=180, ge=1)
    """Of rejected rows, and of dead letters and unsent messages."""
    stream_retention_days: int = Field(default=30, ge=2)
    """Of the micro-batches' lines and ledgers, a few a second; rollups of them stay."""
    history_retention_days: int = Field(default=400, ge=30)
    """Of runs, manifests, ledgers, profiles and anomalies; rollups of them stay."""
    log_folder: Path = Path("logs")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_stdout: bool = False
    """Whether each line goes to stdout too, as the JSON object that the file has."""

    @field_validator(
        "database_url",
        "owner_database_url",
        "reader_database_url",
        "monitor_database_url",
        "eraser_database_url",
    )
    @classmethod
    def _check_address(cls, given: SecretStr) -> SecretStr:
        if given.get_secret_value():
            PostgresDsn(given.get_secret_value())
        return given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the YAML file behind the environment."""
        return (
            init_settings,
            env_settings,
            _FileVariables(settings_cls),
            dotenv_settings,
            YamlConfigSettingsSource(settings_cls),
        )


class _FileVariables(EnvSettingsSource):
    """Settings whose variable, with _FILE at its end, names the file that holds them."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {
            name.removesuffix(_FILE).lower(): _read_file(name, Path(path))
            for name, path in os.environ.items()
            if _is_file_variable(name)
        }


def _is_file_variable(name: str) -> bool:
    setting = name.removeprefix(PREFIX).removesuffix(_FILE).lower()
    return name.startswith(PREFIX) and name.endswith(_FILE) and setting in Settings.model_fields


def _read_file(name: str, path: Path) -> str:
    try:
        # Editors and `echo` end a file with a line end, which is no part of a password.
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(
            f"{name} names {path}, which cannot be read ({error}): name a text file."
        ) from error


@lru_cache(maxsize=1)
def read_settings() -> Settings:
    """Return the settings of this process, read once; raises SettingError naming the variable."""
    _refuse_misspelled(os.environ)
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"][:1]).upper()
        inner = ".".join(str(part) for part in first["loc"][1:])
        where = f"{name} ({inner})" if inner else name
        message = f"The setting {where} cannot be used: {first['msg']}."
        raise SettingError(message) from None
    except SettingsError as error:
        name = str(error).split('"')[1].upper() if '"' in str(error) else "?"
        raise SettingError(
            f"The setting {PREFIX}{name} cannot be used: it is no JSON; write "
            f"{_JSON_EXAMPLES.get(name.lower(), 'JSON')}."
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        problem = str(error).split("\n", maxsplit=1)[0]
        raise SettingError(
            f"{SETTINGS_FILE} or .env cannot be read ({problem}): write `name: value`, a setting a "
            "line, in UTF-8."
        ) from None


def _refuse_misspelled(environment: Mapping[str, str]) -> None:
    """Raise SettingError for a variable that looks like a setting and is none."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | OTHER_VARIABLES
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and not _is_file_variable(name):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see infra/settings.py for the settings."
            raise SettingError(f"{name} is no setting of the platform: {hint}")
