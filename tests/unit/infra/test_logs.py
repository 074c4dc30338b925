"""Log lines: one JSON object a line in the file of its day, a readable one elsewhere."""

import asyncio
import datetime as dt
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.logs import LOGGER, DailyFile, configure_logging, lines_of_run, tag_lines
from infra.settings import Settings
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


def test_lines_go_to_stdout_too_where_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wanted in (True, False):
        log = configure_logging("daily", folder=tmp_path, settings=Settings(log_stdout=wanted))
        log.info("loaded", rows=3, password="x")
        logging.getLogger(LOGGER).warning("plain, to eve@example.com")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line.get("password")) for line in lines] == [
        ("loaded", "•••"),
        ("plain, to •••", None),
    ]
    assert lines == read(tmp_path)[:2]


def test_a_stdout_that_nobody_reads_any_more_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(os.dup(write_end), "w", buffering=1) as broken:
        monkeypatch.setattr("sys.stdout", broken)
        log = configure_logging("daily", folder=tmp_path, settings=Settings(log_stdout=True))
        log.info("loaded")
        # What it could not write it would try again when it is closed.
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), broken.fileno())
    os.close(write_end)
    assert [line["event"] for line in read(tmp_path)] == ["loaded"]


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
    assert ("ValueError: x" in logging.Formatter().format(record)) is shown


def test_what_prefect_says_of_a_failure_has_no_secret(tmp_path: Path) -> None:
    configure_logging("daily", folder=tmp_path)
    logger = logging.getLogger("prefect.flow_runs")
    error = ValueError("of ann@example.com")
    record = logger.makeRecord(
        logger.name, logging.ERROR, "f", 1, "failed by %s", (error,), (ValueError, error, None)
    )
    assert logger.filter(record)
    said = logging.Formatter().format(record)
    assert said.splitlines()[0] == "failed by of •••"
    assert said.endswith("ValueError: of •••")


def test_a_handler_that_was_there_before_shows_no_secret_either(tmp_path: Path) -> None:
    shown: list[str] = []

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.append(self.format(record))

    logging.getLogger(LOGGER).addHandler(Shown())
    log = configure_logging("daily", folder=tmp_path)
    log.info("loaded", password="hunter2", nested=[{"email": "x"}])
    logging.getLogger(f"{LOGGER}.plain").warning("%s", {"api_key": "hunter2"})
    # The first handler has changed the record: the second shows it the same.
    assert shown == ["loaded password=••• nested=[{'email': '•••'}]", "{'api_key': •••}"]
    assert [line["event"] for line in read(tmp_path)] == ["loaded", "{'api_key': •••}"]


def test_an_error_of_the_standard_librarys_logger_is_in_the_file_without_its_secrets(
    tmp_path: Path,
) -> None:
    configure_logging("daily", folder=tmp_path)
    try:
        int("a fault")
    except ValueError:
        logging.getLogger(f"{LOGGER}.plain").exception("it failed")
    [line] = read(tmp_path)
    assert line["event"] == "it failed"
    assert "test_logs.py" in line["exception"]
    assert line["exception"].endswith("invalid literal for int() with base 10: •••")


def test_arguments_that_do_not_fit_their_message_lose_only_themselves(tmp_path: Path) -> None:
    configure_logging("daily", folder=tmp_path)
    arguments = ("one",)
    logging.getLogger(f"{LOGGER}.plain").info("%s and %s", *arguments)
    assert read(tmp_path)[0]["event"] == "%s and %s (its arguments do not fit)"


def test_lines_say_what_they_are_tagged_with_and_no_longer_than_that(tmp_path: Path) -> None:
    log = configure_logging("daily", folder=tmp_path)
    with tag_lines(execution_id=7, dataset="customers"):
        with tag_lines(dataset="products"):
            log.info("within")
        log.info("around")
    log.info("after")
    within, around, after = read(tmp_path)
    assert (within["execution_id"], within["dataset"]) == (7, "products")
    assert (around["execution_id"], around["dataset"]) == (7, "customers")
    assert "execution_id" not in after
    assert "dataset" not in after


async def test_a_task_that_was_begun_within_keeps_its_tags(tmp_path: Path) -> None:
    log = configure_logging("daily", folder=tmp_path)
    may_go_on = asyncio.Event()

    async def say() -> None:
        await may_go_on.wait()
        log.info("late")

    async with lines_of_run(execution_id=7):
        task = asyncio.create_task(say())
    may_go_on.set()
    await task
    assert read(tmp_path)[0]["execution_id"] == 7
