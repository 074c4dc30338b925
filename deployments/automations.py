"""What the Prefect server does by itself when something happens: it has a watcher look at once.

None of them touches a run. Automations that mark or restart runs go by heartbeats, which the server
itself misses while it is away: tried, they marked living consumers as Crashed (docs/kafka.md). Who
lives is for the keeper and the janitor to say, which ask PostgreSQL.
"""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

_PAUSE = dt.timedelta(minutes=5)
"""What happens more often is looked at once in so long: one look sees it all."""
# Runs of the watchers themselves have the tag `ops`, and must not call each other for ever.
_LOADING = ResourceSpecification.model_validate(
    {
        "prefect.resource.role": "tag",
        "prefect.resource.id": ["prefect.tag.batch", "prefect.tag.stream"],
    }
)


@dataclass(frozen=True, slots=True)
class Watch:
    """One automation: upon these events, a run of this deployment."""

    name: str
    description: str
    events: frozenset[str]
    resource: str
    deployment: str
    is_of_loading_runs: bool = False

    def describe(self, deployment_id: UUID) -> AutomationCore:
        """Return it as the server's API has it."""
        return AutomationCore(
            name=self.name,
            description=self.description,
            enabled=True,
            tags=["sluiceway"],
            trigger=EventTrigger(
                match=ResourceSpecification.model_validate({"prefect.resource.id": self.resource}),
                match_related=(
                    _LOADING
                    if self.is_of_loading_runs
                    else ResourceSpecification.model_validate({})
                ),
                expect=set(self.events),
                posture=Posture.Reactive,
                threshold=1,
                within=_PAUSE,
            ),
            actions=[
                RunDeployment(
                    source="selected",
                    deployment_id=deployment_id,
                    parameters=None,
                    job_variables=None,
                )
            ],
        )


WATCHES = (
    Watch(
        "sluiceway: a work pool has lost its workers",
        "The health check looks at once, and not only in the next minute.",
        frozenset({"prefect.work-pool.not-ready"}),
        "prefect.work-pool.*",
        "check_health/every-minute",
    ),
    Watch(
        "sluiceway: a run crashed or is late",
        "The janitor looks at once: dead runs are marked in the history, late ones become one.",
        frozenset({"prefect.flow-run.Crashed", "prefect.flow-run.Late"}),
        "prefect.flow-run.*",
        "mark_dead_runs/every-minute",
        is_of_loading_runs=True,
    ),
)


async def apply_automations(
    client: PrefectClient, watches: tuple[Watch, ...] = WATCHES
) -> list[str]:
    """Leave one automation of each name on the server; returns a sentence for each change.

    One that somebody switched off stays so. Their deployments have to be there.
    """
    changes = []
    for watch in watches:
        deployment = await client.read_deployment_by_name(watch.deployment)
        wanted = watch.describe(deployment.id)
        there = await client.read_automations_by_name(watch.name)
        if not there:
            await client.create_automation(wanted)
            changes.append(f"created the automation '{watch.name}'")
            continue
        kept, *doubled = there
        wanted.enabled = kept.enabled
        if AutomationCore.model_validate(kept.model_dump(exclude={"id"})) != wanted:
            await client.update_automation(kept.id, wanted)
            changes.append(f"changed the automation '{watch.name}'")
        for each in doubled:
            await client.delete_automation(each.id)
            changes.append(f"deleted a second automation '{watch.name}'")
    return changes
