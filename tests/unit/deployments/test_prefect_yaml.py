"""What `prefect deploy` is told: flows that exist, parameters they take, pools that are made."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow

from deployments.keeper import DEPLOYMENT
from deployments.pools import POOLS

ROOT = Path(__file__).parents[3]
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())[
    "deployments"
]


def load_flow(entrypoint: str) -> Flow:
    path, name = entrypoint.split(":")
    found = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(found, Flow)
    return found


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["entrypoint"])
def test_a_deployment_names_a_flow_its_parameters_and_a_pool(deployment: dict[str, Any]) -> None:
    flow = load_flow(deployment["entrypoint"])
    assert set(deployment.get("parameters", {})) <= set(inspect.signature(flow.fn).parameters)
    assert deployment["work_pool"]["name"] in {pool.name for pool in POOLS}


def test_the_keeper_finds_its_deployment_which_no_lease_can_end() -> None:
    [kept] = [each for each in DEPLOYMENTS if each["name"] == DEPLOYMENT.split("/")[1]]
    assert load_flow(kept["entrypoint"]).name == DEPLOYMENT.split("/")[0]
    assert kept["parameters"] == {"consumer": 1}
    assert "concurrency_limit" not in kept
    assert "schedules" not in kept
    # A consumer that outlives its worker would die of writing to a pipe that nobody reads.
    assert kept["work_pool"]["job_variables"]["stream_output"] is False
