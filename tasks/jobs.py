"""What one run has to load, and what has to be loaded before what."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.endpoints import Endpoint
from schemas.dataset import Spec
from tasks.discover_files import Found


@dataclass(frozen=True, slots=True)
class Job:
    """One source to load."""

    table: str
    spec: Spec | None
    origin: Found | Endpoint

    @property
    def name(self) -> str:
        """What a person calls it."""
        if isinstance(self.origin, Found):
            return self.origin.path.name
        return self.origin.shown_url


@dataclass(frozen=True, slots=True)
class Queue:
    """One dataset's sources, to be loaded one after the other: at once they would only wait."""

    table: str
    jobs: list[Job] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    """Tables of the same run whose rows these rows name."""


def make_queues(jobs: Sequence[Job]) -> list[Queue]:
    """Return a queue a dataset, each after those that it names rows of; jobs keep their order."""
    queues: dict[str, Queue] = {}
    specs: dict[str, Spec | None] = {}
    for job in jobs:
        queues.setdefault(job.table, Queue(job.table)).jobs.append(job)
        specs[job.table] = job.spec
    for table, queue in queues.items():
        queue.after.extend(sorted(_named(specs[table]) & queues.keys()))
    return sorted(queues.values(), key=lambda queue: _height(specs[queue.table]))


def _named(spec: Spec | None) -> set[str]:
    if spec is None:
        return set()
    own = {each.references.spec.table for each in spec.references if each.references}
    further = (_named(each.references.spec) for each in spec.references if each.references)
    return own.union(*further)


def _height(spec: Spec | None) -> int:
    named = [each.references.spec for each in spec.references if each.references] if spec else []
    return 1 + max((_height(each) for each in named), default=0)
