"""In which order sources are loaded: dimensions before the facts that name their rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.endpoints import Endpoint
from schemas.dataset import Role, Spec
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


def order_waves(jobs: Sequence[Job]) -> list[list[list[Job]]]:
    """Return waves of queues: a wave starts when the one before has ended, its queues at once.

    A queue holds one dataset's sources, older files first: the same dataset's loads would only
    wait for each other.
    """
    waves: dict[int, dict[str, list[Job]]] = {}
    for job in jobs:
        waves.setdefault(_wave(job.spec), {}).setdefault(job.table, []).append(job)
    return [list(waves[number].values()) for number in sorted(waves)]


_AFTER_DIMENSIONS = 1000


def _wave(spec: Spec | None) -> int:
    if spec is None or spec.role is not Role.DIMENSION:
        return _AFTER_DIMENSIONS
    named = (each.references.spec for each in spec.references if each.references)
    return 1 + max((_wave(each) for each in named), default=0)
