"""Command lines that ask for what cannot be: exit code 2 and words on stderr, before anything heavy begins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jobs.cli.main import main
from tests.support.error_page import case, says


@pytest.mark.parametrize(
    ("wrong", "command"),
    [
        case("an unknown command", "asemble"),
        case("an unknown option", "assemble --asof 2026-01-01"),
        case("a day that is missing", "assemble"),
        case("a day in words", "assemble --as-of yesterday"),
        case("the 30th of February on the command line", "assemble --as-of 2026-02-30"),
        case("a day before 1970 on the command line", "assemble --as-of 1969-12-31"),
        case("a day after 2099 on the command line", "embed --as-of 2100-01-01"),
        case("days in the wrong order", "publish --as-of 2026-01-02 --through 2026-01-01"),
        case("a company of 99 users", "generate --users 99"),
        case("a share of changed users above 1", "generate --changed-share 1.5"),
        case("a negative number of steps", "train --steps -1"),
        case("an evaluation over no seed", "evaluate --seeds 0"),
        case("shots that are no number", "evaluate --seeds 1 --shots few"),
        case("no shot", "evaluate --seeds 1 --shots 0"),
        case("steps for the evaluation of a release", "evaluate --steps 0"),
        case("a release for an evaluation over seeds", "evaluate --noise --release somewhere"),
        case("no halves", "evaluate --halves 0"),
        case("halves for an evaluation over seeds", "evaluate --noise --halves 9"),
        case("variants for the table of instructions", "evaluate --seeds 1 --only full"),
        case("shots for the ablations", "evaluate --ablations --shots 16"),
        case("no user to look up", "lookup"),
        case("no row to show", "sql SELECT --limit 0"),
        case("no shot to tune with", "tune --scenario food --shots 0"),
        case("asking about users and about all", "ask Food? --user u1 --all"),
        case("a deployment file that is not there, on the command line", "assemble --as-of 2026-01-01 -c nowhere.yaml"),
    ],
)
def test_a_command_that_cannot_be_is_refused(
    wrong: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["instructue", *command.split()])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    says(wrong, "refused", said.err)
