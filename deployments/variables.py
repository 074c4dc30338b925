"""The Prefect variables that flows read, made so that a person finds them in the UI."""

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate

from tasks.prefect_variables import PREFIX, VARIABLES


async def create_variables(client: PrefectClient) -> list[str]:
    """Leave each variable there, with null where it is new; returns a sentence for each of those.

    A value that somebody gave stays as it is.
    """
    changes = []
    for setting in VARIABLES:
        name = f"{PREFIX}{setting}"
        if await client.read_variable_by_name(name) is None:
            await client.create_variable(VariableCreate(name=name, value=None, tags=["sluiceway"]))
            changes.append(f"created the variable {name}")
    return changes
