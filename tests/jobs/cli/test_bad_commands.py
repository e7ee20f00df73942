"""Wrong command lines: exit code 2 and a message on stderr, before any heavy import."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jobs.cli.main import main
from tests.support.error_page import case, says


@pytest.mark.parametrize(
    ("wrong", "command"),
    [
        case("an unknown command", "asemble", said="No such command 'asemble'"),
        case("an unknown option", "assemble --asof 2026-01-01", said="No such option: --asof"),
        case("a day that is missing", "assemble", said="Missing option '--as-of'"),
        case(
            "a day in words",
            "assemble --as-of yesterday",
            said="Invalid value for '--as-of': ...'yesterday' does not match the formats '%Y-%m-%d'",
        ),
        case(
            "the 30th of February on the command line",
            "assemble --as-of 2026-02-30",
            said="Invalid value for '--as-of': ...'2026-02-30' does not match the formats '%Y-%m-%d'",
        ),
        case("a day before 1970 on the command line", "assemble --as-of 1969-12-31"),
        case(
            "a day after 2099 on the command line",
            "embed --as-of 2100-01-01",
            said="Invalid value for '--as-of': 2100-01-01 is no day from 1970-01-01 to 2099-12-31",
        ),
        case("days in the wrong order", "publish --as-of 2026-01-02 --through 2026-01-01"),
        case(
            "a company of 99 users",
            "generate --users 99",
            said="Invalid value for '--users': Input should be greater than or equal to 100",
        ),
        case(
            "a negative number of steps",
            "train --steps -1",
            said="Invalid value for '--steps': Input should be greater than or equal to 0",
        ),
        case(
            "an evaluation over no seed",
            "evaluate --seeds 0",
            said="Invalid value for '--seeds': Input should be greater than or equal to 1",
        ),
        case(
            "shots that are no number",
            "evaluate --seeds 1 --shots few",
            said="Invalid value for --shots: 'few' is neither a number of users nor all",
        ),
        case(
            "no shot",
            "evaluate --seeds 1 --shots 0",
            said="Invalid value for --shots: '0' is neither a number of users nor all",
        ),
        case("steps for the evaluation of a release", "evaluate --steps 0"),
        case(
            "a release for an evaluation over seeds",
            "evaluate --noise --release somewhere",
            said=(
                "Invalid value for --release: only the evaluation of a release reads it: leave "
                "the options over seeds out"
            ),
        ),
        case(
            "no split",
            "evaluate --splits 0",
            said="Invalid value for '--splits': Input should be greater than or equal to 1",
        ),
        case(
            "splits for an evaluation over seeds",
            "evaluate --noise --splits 9",
            said=(
                "Invalid value for --splits: only the evaluation of a release reads it: leave "
                "the options over seeds out"
            ),
        ),
        case(
            "variants for the table of instructions",
            "evaluate --seeds 1 --only full",
            said="Invalid value for --only: only --ablations and --baselines read it",
        ),
        case(
            "shots for the ablations",
            "evaluate --ablations --shots 16",
            said="Invalid value for --shots: only the table (--seeds alone) reads it",
        ),
        case("no user to look up", "lookup", said="Missing argument"),
        case(
            "no row to show",
            "sql SELECT --limit 0",
            said="Invalid value for '--limit': Input should be greater than or equal to 1",
        ),
        case(
            "no shot to tune with",
            "tune --scenario food --shots 0",
            said="Invalid value for '--shots': Input should be greater than or equal to 1",
        ),
        case("asking about users and about all", "ask Food? --user u1 --all"),
        case("a deployment file that is not there, on the command line", "assemble --as-of 2026-01-01 -c nowhere.yaml"),
    ],
)
def test_a_wrong_command_line_is_refused(
    wrong: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["instructue", *command.split()])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err
    says(wrong, "refused", output.err)
