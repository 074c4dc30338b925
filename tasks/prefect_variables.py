"""Settings that a person may change in the Prefect UI, for the next run and without a restart.

A variable that is not there, or holds null, leaves the setting as it is on the worker's host.
"""

from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from pydantic import TypeAdapter, ValidationError

from infra.settings import Settings
from schemas.errors import SettingError

PREFIX = "sluiceway_"
VARIABLES = {"raw_folder": "a folder's path", "concurrent_files": "a number from 1 to 20"}
"""By setting: what the Prefect variable of its name, with `sluiceway_` before it, may hold."""


async def apply_variables(settings: Settings) -> Settings:
    """Return the settings with what Prefect's variables say of them.

    Raises SettingError for a value that the setting cannot have.
    """
    checked = {}
    # Not by `Variable.aget`: outside a flow it leaves a client open.
    async with get_client() as client:
        for name in VARIABLES:
            variable = await client.read_variable_by_name(f"{PREFIX}{name}")
            if variable is not None and variable.value is not None:
                checked[name] = _check(name, variable.value)
    return settings.model_copy(update=checked)


def _check(name: str, value: Any) -> Any:
    field = Settings.model_fields[name]
    adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
    try:
        # Prefect gives numbers and texts as what they are; `"4"` for 4 is a slip.
        return adapter.validate_python(value, strict=field.annotation is not Path)
    except ValidationError:
        raise SettingError(
            f"The Prefect variable {PREFIX}{name} cannot be used: give it {VARIABLES[name]}, or "
            "null for what the worker's settings say."
        ) from None
