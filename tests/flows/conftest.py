"""One Prefect server for every test of a flow: its start takes longer than any of them."""

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """A Prefect server on a database of its own."""
    with prefect_test_harness(server_startup_timeout=120):
        yield
