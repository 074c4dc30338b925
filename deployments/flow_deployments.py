"""The deployments of prefect.yaml on a Prefect server, as `prefect deploy --all` makes them.

That command writes each of them anew every time, drops the runs that are scheduled, and switches
schedules on again that a person has switched off. Here, what is there is compared first, and what
a person has paused stays so.
"""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import construct_schedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.templating import apply_values

from schemas.errors import TerminalError

CHECKOUT = Path(__file__).absolute().parents[1]
_KNOWN = frozenset(
    {
        "name",
        "entrypoint",
        "description",
        "tags",
        "parameters",
        "work_pool",
        "schedules",
        "concurrency_limit",
    }
)
_SCHEDULE = ("cron", "interval", "anchor_date", "rrule", "timezone")


@dataclass(frozen=True, slots=True)
class Declared:
    """One deployment, as prefect.yaml and its flow describe it."""

    flow_name: str
    name: str
    fields: dict[str, Any]
    """By the names that the server's API has for them."""
    schedules: tuple[DeploymentScheduleCreate, ...]

    @property
    def full_name(self) -> str:
        """What `prefect deployment run` takes."""
        return f"{self.flow_name}/{self.name}"


def read_declared(checkout: Path = CHECKOUT) -> list[Declared]:
    """Return what the checkout's prefect.yaml declares; its flows are imported for it.

    Raises TerminalError for what is known to `prefect deploy` alone, as build steps or triggers.
    """
    content = yaml.safe_load((checkout / "prefect.yaml").read_text(encoding="utf-8"))
    # `{{ $NAME }}` stays where this process has no such variable: the worker's is taken then.
    pull_steps: Any = apply_values(content.get("pull") or [], {}, remove_notset=False)
    return [_declare(entry, pull_steps) for entry in content["deployments"]]


async def apply_deployments(client: PrefectClient, declared: list[Declared]) -> list[str]:
    """Leave the deployments on the server as declared; returns a sentence for each change.

    A deployment or a schedule that somebody paused stays so, one that somebody switched on too.
    Deployments that are not declared are somebody else's, and let alone.
    """
    changes: list[str] = []
    for each in declared:
        changes += await _apply(client, each)
    return changes


def _declare(entry: dict[str, Any], pull_steps: list[dict[str, Any]]) -> Declared:
    where = f"prefect.yaml's deployment {entry.get('name')} of {entry.get('entrypoint')}"
    if unknown := sorted(entry.keys() - _KNOWN):
        raise TerminalError(
            f"{where} has `{unknown[0]}`, which only `prefect deploy` knows: take it out, and "
            "deploy what needs it by that command, from a file of its own."
        )
    flow = _load_flow(entry["entrypoint"])
    limit = entry.get("concurrency_limit")
    options = None
    if isinstance(limit, dict):
        options = {key: value for key, value in limit.items() if key != "limit"}
        limit = limit["limit"]
    pool = entry["work_pool"]
    fields = {
        "version": flow.version,
        "description": entry.get("description") or flow.description,
        "tags": entry.get("tags", []),
        "parameters": entry.get("parameters", {}),
        "work_pool_name": pool["name"],
        "job_variables": pool.get("job_variables", {}),
        "entrypoint": entry["entrypoint"],
        "pull_steps": pull_steps,
        "parameter_openapi_schema": flow.parameters.model_dump(exclude_unset=True),
        "concurrency_limit": limit,
        "concurrency_options": options or None,
    }
    schedules = tuple(_schedule(each, where) for each in entry.get("schedules", []))
    return Declared(flow.name, entry["name"], fields, schedules)


def _load_flow(entrypoint: str) -> Flow[..., Any]:
    path, name = entrypoint.split(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    found = getattr(module, name)
    if not isinstance(found, Flow):
        raise TerminalError(f"prefect.yaml names {entrypoint}, which is no flow: mend the line.")
    return found


def _schedule(entry: dict[str, Any], where: str) -> DeploymentScheduleCreate:
    if "interval" in entry and "anchor_date" not in entry:
        raise TerminalError(
            f"A schedule of {where} has an interval and no anchor_date: it would begin anew with "
            "each bootstrap; add the moment it counts from."
        )
    return DeploymentScheduleCreate(
        schedule=construct_schedule(**{key: entry[key] for key in _SCHEDULE if key in entry}),
        active=entry.get("active", True),
        parameters=entry.get("parameters", {}),
    )


async def _apply(client: PrefectClient, declared: Declared) -> list[str]:
    name = declared.full_name
    try:
        there = await client.read_deployment_by_name(name)
    except ObjectNotFound:
        await client.create_deployment(
            await client.create_flow_from_name(declared.flow_name),
            declared.name,
            schedules=list(declared.schedules),
            enforce_parameter_schema=True,
            **declared.fields,
        )
        return [f"created the deployment {name}"]
    actual = _fields_of(there)
    differing = {
        key: value for key, value in declared.fields.items() if _as_json(value) != actual[key]
    }
    changes = []
    if differing:
        await client.update_deployment(there.id, DeploymentUpdate(**differing))
        changes.append(f"changed the deployment {name}: {', '.join(sorted(differing))}")
    return changes + await _apply_schedules(client, declared, there)


async def _apply_schedules(
    client: PrefectClient, declared: Declared, there: DeploymentResponse
) -> list[str]:
    """Leave the declared schedules, and no other; who is there stays on or off as it is."""
    wanted = {_when(each): each for each in declared.schedules}
    actual = {_when(each): each for each in there.schedules}
    missing = [each for when, each in wanted.items() if when not in actual]
    surplus = [each for when, each in actual.items() if when not in wanted]
    if missing:
        await client.create_deployment_schedules(there.id, missing)
    for each in surplus:
        await client.delete_deployment_schedule(there.id, each.id)
    if not missing and not surplus:
        return []
    return [f"changed the schedules of the deployment {declared.full_name}"]


def _when(schedule: DeploymentScheduleCreate | DeploymentSchedule) -> str:
    return json.dumps(
        [schedule.schedule.model_dump(mode="json"), schedule.parameters], sort_keys=True
    )


def _fields_of(there: DeploymentResponse) -> dict[str, Any]:
    limit = there.global_concurrency_limit
    options = there.concurrency_options
    return {
        "version": there.version,
        "description": there.description,
        "tags": there.tags,
        "parameters": there.parameters,
        "work_pool_name": there.work_pool_name,
        "job_variables": there.job_variables,
        "entrypoint": there.entrypoint,
        "pull_steps": there.pull_steps,
        "parameter_openapi_schema": there.parameter_openapi_schema,
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": (
            options.model_dump(mode="json", exclude_none=True) if options else None
        ),
    }


def _as_json(value: object) -> object:
    """Return the value as it comes back from the server."""
    return json.loads(json.dumps(value, default=str))
