"""Log lines: one JSON object a line in the file of its day, a readable one elsewhere."""

import datetime as dt
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.logs import LOGGER, DailyFile, configure_logging
from schemas.errors import RefusedError


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    logger = logging.getLogger(LOGGER)
    level, before = logger.level, list(logger.handlers)
    yield
    for handler in [each for each in logger.handlers if each not in before]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)


def read(folder: Path) -> list[dict]:
    [path] = folder.iterdir()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_goes_to_the_file_of_its_day_with_its_fields(tmp_path: Path) -> None:
    log = configure_logging("daily", folder=tmp_path / "logs")
    before = dt.datetime.now(dt.UTC)
    log.bind(run=7).info("loaded", rows=3, source="é\nx")
    after = dt.datetime.now(dt.UTC)
    [path] = (tmp_path / "logs").iterdir()
    assert path.name in {f"daily_{day:%Y%m%d}.log" for day in (before, after)}
    [line] = read(tmp_path / "logs")
    moment = dt.datetime.fromisoformat(line.pop("timestamp"))
    assert before <= moment <= after
    assert line == {
        "logger": LOGGER,
        "event": "loaded",
        "level": "info",
        "run": 7,
        "rows": 3,
        "source": "é\nx",
    }


def test_a_record_of_another_day_goes_to_that_days_file(tmp_path: Path) -> None:
    handler = DailyFile(tmp_path, "daily")
    record = logging.LogRecord("x", logging.INFO, "f", 1, "plain %s", ("text",), None)
    record.created = dt.datetime(2024, 2, 29, 23, 59, tzinfo=dt.UTC).timestamp()
    handler.emit(record)
    assert read(tmp_path) == [{"logger": "x", "event": "plain text"}]
    assert [path.name for path in tmp_path.iterdir()] == ["daily_20240229.log"]


def test_configuring_again_moves_the_lines_and_doubles_none(tmp_path: Path) -> None:
    configure_logging("a", folder=tmp_path / "one")
    log = configure_logging("b", folder=tmp_path / "two", level="warning")
    log.info("too quiet")
    log.warning("heard")
    assert not (tmp_path / "one").exists()
    assert [line["event"] for line in read(tmp_path / "two")] == ["heard"]


def test_an_exception_is_kept_in_the_file_with_where_it_came_from(tmp_path: Path) -> None:
    log = configure_logging("daily", folder=tmp_path)
    try:
        int("a fault")
    except ValueError:
        log.exception("failed", source="a.csv")
    [line] = read(tmp_path)
    assert "test_logs.py" in line["exception"]
    assert line["source"] == "a.csv"


def test_half_a_character_does_not_keep_a_line_out(tmp_path: Path) -> None:
    configure_logging("daily", folder=tmp_path).info("x", name="\udce9")
    assert read(tmp_path)[0]["event"] == "x"


def test_a_folder_that_cannot_be_made_is_told_on_stderr_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    log = configure_logging("daily", folder=tmp_path / "file")
    log.info("lost")
    log.info("lost too")
    [sentence] = capsys.readouterr().err.splitlines()
    assert "SLUICEWAY_LOG_FOLDER" in sentence


@pytest.mark.parametrize(
    ("error", "shown"), [(RefusedError("A sentence."), False), (ValueError("x"), True)]
)
def test_prefect_prints_no_traceback_of_an_expected_error(
    tmp_path: Path, error: Exception, *, shown: bool
) -> None:
    configure_logging("daily", folder=tmp_path)
    configure_logging("daily", folder=tmp_path)
    logger = logging.getLogger("prefect.task_runs")
    assert (
        len([each for each in logger.filters if "traceback" in getattr(each, "__name__", "")]) == 1
    )
    record = logger.makeRecord(
        logger.name, logging.ERROR, "f", 1, "Task run failed", (), (type(error), error, None)
    )
    assert logger.filter(record)
    assert (record.exc_info is not None) is shown
