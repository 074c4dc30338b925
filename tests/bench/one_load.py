"""One load in a process of its own, so that its memory can be told from everybody else's.

It takes a JSON object on standard input (url, path, staging_only), and answers with one.
"""

import asyncio
import json
import resource
import sys
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from infra.postgres.connection import Pool
from schemas.dataset import Role, Spec, freeze
from schemas.datasets import DATASETS
from tasks.extract_csv import CsvFile
from tasks.load import Order, load_source
from tests.bench.personal_orders import PERSONAL_ORDERS

KIBIBYTE = 1024


def contract_of(path: Path, *, staging_only: bool) -> Spec:
    """Return the contract that the file's name stands for, or its like that merges nothing."""
    known = (*DATASETS, *PERSONAL_ORDERS)
    spec = next(each.spec for each in known if each.spec.table == path.name.split(".")[0])
    return freeze(replace(spec, role=Role.STAGING)) if staging_only else spec


async def load(url: str, path: Path, *, staging_only: bool) -> dict[str, Any]:
    """Load the file once; returns the seconds inside load_source and its ledger."""
    spec = contract_of(path, staging_only=staging_only)
    async with Pool(url) as pool:
        async with pool.acquire() as connection:
            execution_id = await connection.fetchval(
                "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('bench') "
                "RETURNING id"
            )
        # As the flow does it: no look at the manifest here, so a second load is a load.
        order = Order(execution_id, str(path), spec.table, spec)
        source = CsvFile(path, known_columns=spec.names)
        start = perf_counter()
        report = await load_source(pool, source, order)
        seconds = perf_counter() - start
    return {
        "seconds": seconds,
        "ledger": asdict(report.ledger),
        "rules": report.rules,
        "peak_bytes": read_peak_bytes(),
    }


def read_peak_bytes() -> int:
    """Return the most memory this process has held at once."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands getrusage's figure on through exec: it may be that of the process before.
        line = next(each for each in status.read_text().splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) * KIBIBYTE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * KIBIBYTE


if __name__ == "__main__":
    given = json.load(sys.stdin)
    answer = asyncio.run(
        load(given["url"], Path(given["path"]), staging_only=given["staging_only"])
    )
    json.dump(answer, sys.stdout)
