"""What dashboards are made of: panels, in sections, with their questions to Prometheus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["stat", "timeseries", "table", "bargauge"]
Threshold = tuple[str, float]
"""A colour, and the value from which on it holds."""

OK = (("green", 0),)
ANY_IS_BAD = (("green", 0), ("red", 1))
ZERO_IS_BAD = (("red", 0), ("green", 1))


@dataclass(frozen=True, slots=True)
class Query:
    """One question in PromQL, and how its answers are called."""

    expr: str
    name: str = ""
    """A legend, as {{pipeline}}; in a table, the heading of its column."""
    unit: str = ""
    """In a table: of its column."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. Stats and tables ask for now, the others for a range."""

    kind: Kind
    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 12
    height: int = 8
    thresholds: Sequence[Threshold] = OK
    decimals: int | None = None
    stacked: bool = False
    bars: bool = False
    mappings: Mapping[str, str] = field(default_factory=dict)
    """What is shown in the place of a value."""


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under a heading, from left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a dashboard: values of one label of one metric, or all of them."""

    name: str
    metric: str
    title: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of Grafana; the uid stays when it is written anew, and so do links to it."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    sections: tuple[Section, ...]


def stat(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str = "short",
    thresholds: Sequence[Threshold] = OK,
    decimals: int | None = None,
    name: str = "",
    width: int = 4,
    mappings: Mapping[str, str] | None = None,
) -> Panel:
    """Return one figure, or one for each series, as of now."""
    return Panel(
        "stat",
        title,
        description,
        (Query(expr, name),),
        unit=unit,
        width=width,
        height=4,
        thresholds=thresholds,
        decimals=decimals,
        mappings=mappings or {},
    )
