"""The message of a run's state in Prefect is the text of its error, and shows no secret either."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.daily_etl_pipeline import daily_etl_pipeline
from infra.logs import detach_log_table
from infra.redaction import MASK
from infra.settings import read_settings
from tests.conftest import LOADER_PASSWORD


@pytest.fixture
def raw_folder(database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder with a file that is refused, with a password where the message quotes it."""
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database.loader_url)
    monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path / "logs"))
    monkeypatch.delenv("SLUICEWAY_DATABASE_BLOCK", raising=False)
    read_settings.cache_clear()
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "products.csv").write_text(f"product_id,{LOADER_PASSWORD}\n1,Spade\n")
    yield folder
    detach_log_table()
    read_settings.cache_clear()


async def test_a_failed_runs_state_shows_no_secret(raw_folder: Path) -> None:
    state = await daily_etl_pipeline(raw_folder, with_api=False, return_state=True)
    assert state.is_failed()
    assert f"it has '{MASK}' instead" in (state.message or "")
    assert LOADER_PASSWORD not in (state.message or "")
