"""The tools that look at the platform's packages, in an environment of their own."""

from pathlib import Path

from tests.bench.peer_environment import PeerError, make_environment
from tests.supply_chain.lock_file import CHECKOUT, SupplyChainError

FOLDER = CHECKOUT / ".sluiceway" / "supply-chain-venv"
LOCK = Path(__file__).with_name("requirements-tools.lock")


def make_tools() -> Path:
    """Return the Python of an environment with the tools; raises SupplyChainError."""
    try:
        return make_environment(FOLDER, LOCK)
    except PeerError as error:
        raise SupplyChainError(str(error)) from None
