"""The daily flow from a shell."""

import os
import subprocess
import sys
from pathlib import Path

from prefect.settings import PREFECT_API_URL

ROOT = Path(__file__).parents[2]


def test_the_command_line_explains_itself_and_ends_in_a_sentence(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if "SLUICEWAY" not in key}
    environment |= {
        "SLUICEWAY_LOG_FOLDER": str(tmp_path),
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "flows.daily_etl_pipeline"]
    started = [
        subprocess.Popen(
            [*command, *given],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for given in (["--help"], ["--without-api"])
    ]
    (shown, _), (_, complaint) = [process.communicate(timeout=120) for process in started]
    explained, failed = started
    assert explained.returncode == 0
    for option in ("--raw-folder", "--without-api", "--force"):
        assert option in shown
    assert failed.returncode == 1
    [sentence] = complaint.splitlines()
    assert sentence.startswith("No database is named: set SLUICEWAY_DATABASE_URL")
