import asyncio
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from easel import logs


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Leave both loggings as they were: they belong to the whole process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logger.remove()
    logger.configure(extra={}, patcher=lambda _: None)
    logger.add(sys.stderr)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def sink() -> io.StringIO:
    return io.StringIO()


def configured(sink: io.StringIO, **how: Any) -> io.StringIO:
    logs.configure(service="gateway", sink=sink, **how)
    return sink


def objects(sink: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def test_a_line_for_people_says_who_what_and_about_what(sink: io.StringIO) -> None:
    configured(sink)
    logger.info("claimed", action="claim", generation_id="g1")
    line = sink.getvalue()
    assert line.count("\n") == 1
    for part in ("INFO", "gateway claimed", "action=claim", "generation_id=g1", "request_id=-", "attempt=-"):
        assert part in line


def test_a_line_for_collectors_is_one_object(sink: io.StringIO) -> None:
    configured(sink, log_format="json")
    logger.info("claimed {}", 3, action="claim", attempt=2)
    [line] = objects(sink)
    assert (line["message"], line["service"], line["level"]) == ("claimed 3", "gateway", "INFO")
    assert (line["action"], line["attempt"], line["generation_id"]) == ("claim", 2, "-")


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_tracebacks_are_shown_without_the_values_of_variables(sink: io.StringIO, log_format: Any) -> None:
    configured(sink, log_format=log_format)
    prompt = " ".join(["very", "private"])
    try:
        int(prompt[:0])
    except ValueError:
        logger.exception("failed", action="fail")
    assert "Traceback" in sink.getvalue()
    assert "invalid literal" in sink.getvalue()
    assert "very private" not in sink.getvalue()


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_traceback_without_the_message(sink: io.StringIO, log_format: Any) -> None:
    configured(sink, log_format=log_format)
    prompt = " ".join(["very", "private"])
    try:
        int(prompt)
    except ValueError as error:
        logger.opt(exception=logs.without_message(error)).error("failed", action="test")
    assert "test_a_traceback_without_the_message" in sink.getvalue()
    assert "ValueError (the client got its message)" in sink.getvalue()
    assert "very private" not in sink.getvalue()


def test_an_exception_stays_on_the_line_of_its_object(sink: io.StringIO) -> None:
    configured(sink, log_format="json")
    try:
        int("broken")
    except ValueError:
        logger.exception("failed", action="fail")
    [line] = objects(sink)
    assert line["message"] == "failed"
    assert line["exception"].endswith("ValueError: invalid literal for int() with base 10: 'broken'")


def test_braces_in_messages_and_values_are_left_alone(sink: io.StringIO) -> None:
    configured(sink)
    logger.info("{}", "a {curious} text", action="{test}")
    assert "a {curious} text" in sink.getvalue()
    assert "action={test}" in sink.getvalue()


def test_lines_of_lesser_levels_are_dropped(sink: io.StringIO) -> None:
    configured(sink, level="WARNING")
    logger.info("quiet", action="test")
    logger.warning("loud", action="test")
    assert "quiet" not in sink.getvalue()
    assert "loud" in sink.getvalue()


def test_standard_logging_is_led_into_it(sink: io.StringIO) -> None:
    configured(sink, log_format="json")
    logging.getLogger("some.library").warning("100%% of {%s}", "it")
    [line] = objects(sink)
    assert (line["message"], line["level"]) == ("100% of {it}", "WARNING")
    assert line["logger"] == __name__


def test_chatter_of_libraries_is_dropped(sink: io.StringIO) -> None:
    configured(sink, level="DEBUG")
    logging.getLogger("urllib3.connectionpool").debug("connection made")
    logging.getLogger("httpx2").info("GET")
    assert sink.getvalue() == ""


async def test_what_a_task_is_about_stands_on_its_lines_and_on_no_other(sink: io.StringIO) -> None:
    configured(sink, log_format="json")
    both = asyncio.Barrier(2)

    async def work(generation_id: str) -> None:
        logs.annotate(generation_id=generation_id)
        await both.wait()
        logs.annotate(attempt=1)
        logger.info(generation_id, action="test")

    await asyncio.gather(asyncio.create_task(work("g1")), asyncio.create_task(work("g2")))
    logger.info("outside", action="test")
    lines = {line["message"]: line for line in objects(sink)}
    assert [lines[name]["generation_id"] for name in ("g1", "g2", "outside")] == ["g1", "g2", "-"]
    assert [lines[name]["attempt"] for name in ("g1", "outside")] == [1, "-"]


def test_what_a_line_says_itself_goes_first(sink: io.StringIO) -> None:
    configured(sink, log_format="json")
    logs.annotate(generation_id="of the task")
    logger.info("x", action="test", generation_id="of the line")
    [line] = objects(sink)
    assert line["generation_id"] == "of the line"


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_text_that_looks_like_a_template_is_left_alone(sink: io.StringIO, log_format: Any) -> None:
    configured(sink, log_format=log_format)
    logger.info("{}", "<red>{extra}</red> <nothing>", action="test")
    assert "<red>{extra}</red> <nothing>" in sink.getvalue()


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_file_that_grew_is_rotated_and_no_line_is_lost_or_broken(tmp_path: Path, log_format: Any) -> None:
    file = tmp_path / "logs" / "gateway.log"
    logs.configure(service="gateway", sink=file, log_format=log_format, rotation="2 KB")
    for number in range(50):
        try:
            int("broken")
        except ValueError:
            logger.opt(exception=number % 10 == 0).info("line {}", number, action="test")
    logger.remove()
    # By what they say: their names tell an order only where the file system keeps when they were made.
    files = sorted(file.parent.iterdir(), key=lambda one: int(re.findall(r"line (\d+)", one.read_text())[0]))
    assert len(files) > 3
    assert all(one.stat().st_size <= 4_000 for one in files)
    lines = [line for one in files for line in one.read_text().splitlines()]
    if log_format == "json":
        assert [json.loads(line)["message"] for line in lines] == [f"line {number}" for number in range(50)]
    else:
        assert [number for number in range(50) if any(f"gateway line {number} " in line for line in lines)] == list(
            range(50)
        )


_UNCAUGHT = """
import threading, warnings
from easel import logs

logs.configure(service="worker", log_format="json")
logs.take_over()
thread = threading.Thread(target=lambda: {}["of a thread"], name="t")
thread.start()
thread.join()
warnings.warn("an {old} way", DeprecationWarning, stacklevel=1)
raise RuntimeError("of the process")
"""


def test_what_nobody_catches_and_warnings_are_lines_too() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", _UNCAUGHT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["CRITICAL", "WARNING", "CRITICAL"]
    of_a_thread, warning, of_the_process = lines
    assert of_a_thread["exception"].endswith("KeyError: 'of a thread'")
    assert "DeprecationWarning: an {old} way" in warning["message"]
    assert of_the_process["exception"].endswith("RuntimeError: of the process")


def test_old_files_are_removed_beyond_their_number(tmp_path: Path) -> None:
    file = tmp_path / "gateway.log"
    logs.configure(service="gateway", sink=file, rotation="1 KB", retention="2")
    for _ in range(100):
        logger.info("a line", action="test")
    logger.remove()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    file = tmp_path / "gateway.log"
    for _ in range(2):
        logs.configure(service="gateway", sink=file)
        logger.info("a line", action="test")
        logger.remove()
    assert len(file.read_text().splitlines()) == 2


@pytest.mark.parametrize("rotation", ["", "100 MB", "1 day", "00:00", "sunday", "1 week, 3 days"])
def test_rotations_in_the_words_of_loguru(rotation: str) -> None:
    logs.check_rotation(rotation)


@pytest.mark.parametrize("retention", ["", "3", "7 days", "1 month"])
def test_retentions_in_the_words_of_loguru(retention: str) -> None:
    logs.check_retention(retention)


def test_checking_touches_no_sink(sink: io.StringIO) -> None:
    configured(sink)
    logs.check_rotation("1 day")
    logs.check_retention("3")
    logger.info("still here", action="test")
    assert "still here" in sink.getvalue()
