"""Logging: which records appear on stderr, in which form, and which are in the file."""

from __future__ import annotations

import io
import json
import logging
import warnings
from datetime import UTC, datetime

import pytest
from rich.console import Console

from jobs.console import logs, terminal


def log_everything() -> None:
    """Log a record of each level with a logger of ours and of a library, and one of Python's warnings."""
    for name in ("jobs.lake.delta", "py4j.java_gateway"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logging.getLogger(name).log(level, "%s at %s", "[x]", logging.getLevelName(level))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("deprecated", FutureWarning, stacklevel=1)


def test_a_line_has_time_level_and_logger(capsys):
    logs.configure()
    log_everything()
    lines = capsys.readouterr().err.splitlines()
    times, rest = zip(*(line.split(" ", 1) for line in lines[:3]), strict=True)
    for time in times:
        assert abs((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()) < 60
    assert rest == (
        "INFO jobs.lake.delta: [x] at INFO",
        "WARNING jobs.lake.delta: [x] at WARNING",
        "WARNING py4j.java_gateway: [x] at WARNING",
    )
    assert "WARNING py.warnings: " in lines[3]
    assert "FutureWarning: deprecated" in lines[3]


@pytest.mark.parametrize(("level", "expected"), [("DEBUG", 3), ("INFO", 2), ("WARNING", 1), ("ERROR", 0)])
def test_the_level_is_that_of_our_records(level, expected, capsys):
    logs.configure(level)
    log_everything()
    lines = capsys.readouterr().err.splitlines()
    assert sum("jobs.lake.delta" in line for line in lines) == expected
    assert sum("py4j" in line for line in lines) == (level != "ERROR")


def test_json_lines_parse(capsys):
    logs.configure(as_json=True)
    try:
        raise ValueError("über\nlines")
    except ValueError:
        logging.getLogger("jobs.x").exception("failed:\n%s", "why")
    log_everything()
    first, *others = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("ERROR", "jobs.x", "failed:\nwhy")
    assert first["exception"].startswith("Traceback")
    assert first["exception"].endswith("ValueError: über\nlines")
    assert [(one["level"], one["logger"]) for one in others] == [
        ("INFO", "jobs.lake.delta"),
        ("WARNING", "jobs.lake.delta"),
        ("WARNING", "py4j.java_gateway"),
        ("WARNING", "py.warnings"),
    ]
    assert all({"time", "level", "logger", "message"} == one.keys() for one in others)


def test_a_terminal_shows_messages_and_keeps_warnings_of_python_in_a_file(monkeypatch, tmp_path):
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=screen, force_terminal=True, color_system=None, width=100))
    monkeypatch.chdir(tmp_path)
    logs.configure()
    logging.getLogger("jobs.console.progress").info("a step, which is drawn")
    assert not (tmp_path / "logs").exists()
    log_everything()
    assert [line.split() for line in screen.getvalue().splitlines()] == [
        ["INFO", "[x]", "at", "INFO"],
        ["WARNING", "[x]", "at", "WARNING"],
        ["WARNING", "[x]", "at", "WARNING"],
    ]
    [file] = (tmp_path / "logs").iterdir()
    assert "FutureWarning: deprecated" in file.read_text(encoding="utf-8")


def test_the_file_has_the_records_of_every_logger(tmp_path, capsys):
    logs.configure("WARNING", file=tmp_path / "all.log")
    log_everything()
    lines = (tmp_path / "all.log").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 1)[1] for line in lines[:4]] == [
        f"{level} {name}: [x] at {level}"
        for name in ("jobs.lake.delta", "py4j.java_gateway")
        for level in ("INFO", "WARNING")
    ]
    assert "py.warnings" in lines[4]
    assert "INFO" not in capsys.readouterr().err


def test_a_second_call_replaces_the_first(capsys):
    logs.configure()
    logs.configure("WARNING", as_json=True)
    logging.getLogger("model.training").info("left out")
    logging.getLogger("model.training").warning("once")
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "once"
