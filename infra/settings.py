"""The settings: the environment's SLUICEWAY_ variables, then `.env`, then a YAML file.

This module is the only reader of the environment.
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
SETTINGS_FILE = Path("deployments/settings.yaml")
DEFAULT_ENDPOINTS = (Endpoint.model_validate("https://jsonplaceholder.typicode.com/users"),)

_JSON_EXAMPLES = {
    "api_endpoints": 'a list as ["https://api.example/users"]',
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
    log_folder: Path = Path("logs")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("database_url", "owner_database_url", "reader_database_url")
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
            dotenv_settings,
            YamlConfigSettingsSource(settings_cls),
        )


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
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see infra/settings.py for the settings."
            raise SettingError(f"{name} is no setting of the platform: {hint}")
