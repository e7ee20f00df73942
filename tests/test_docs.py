"""The documentation against the tree: its files, links, modules, commands and options exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from jobs.cli.main import app
from tests.support.source_code import ROOT, modules

PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
TOP = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - {"demo", "logs", "build"}
PROGRAM = typer.main.get_command(app)
COMMANDS = PROGRAM.commands  # type: ignore[attr-defined]
BEFORE_THE_COMMAND = {name for option in PROGRAM.params for name in option.opts}
OF_OTHER_PROGRAMS = {"--packages", "--all-extras", "--lm"}
"""Options that a page names without the program they belong to."""
OF_THE_READER = {"conf/yours.yaml"}
"""Files that a reader is to write."""
SPAN = re.compile(r"`([^`\n]+)`")
BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"[\w.]+(?:/[\w.]+)+/?|[\w]+\.(?:py|md|toml|lock)")
COMMAND = re.compile(r"(?:instructue|python -m jobs|-m jobs) ([a-z]+)((?: [^|&\n]*)?)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
MODULE = re.compile(r"\b(?:jobs|feature_repo|benchmarks|examples)(?:\.\w+)+\b(?!/)")


def code(page: Path) -> list[str]:
    """Return the spans and the lines of the blocks of code in a page."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    return [*SPAN.findall(BLOCK.sub("", text)), *lines]


def options(command: str) -> set[str]:
    """Return the options of a command."""
    return {name for option in COMMANDS[command].params for name in [*option.opts, *option.secondary_opts]} | {"--help"}


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_files_that_a_page_names_exist(page: Path) -> None:
    named = {name for words in code(page) for name in PATH.findall(words) if name.split("/")[0] in TOP}
    results = {"demo", "releases"}
    assert {name for name in named if not (ROOT / name).exists()} - OF_THE_READER - results == set()


def test_links_lead_somewhere(page: Path) -> None:
    broken = set()
    for link in LINK.findall(SPAN.sub("", page.read_text(encoding="utf-8"))):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target))):
            broken.add(link)
    assert broken == set()


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as its host makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_commands_and_options_exist(page: Path) -> None:
    wrong = set()
    for words in code(page):
        for name, rest in COMMAND.findall(words):
            if name not in COMMANDS:
                wrong.add(name)
            else:
                wrong |= {f"{name} {option}" for option in OPTION.findall(rest) if option not in options(name)}
    every = set().union(*map(options, COMMANDS)) | OF_OTHER_PROGRAMS | BEFORE_THE_COMMAND
    if page.name != "CHANGELOG.md":  # it names former options too
        wrong |= {
            words for words in SPAN.findall(page.read_text(encoding="utf-8")) if re.fullmatch(OPTION, words)
        } - every
    assert wrong == set()


# `model.network` and `model.training` are also keys of a deployment file, so modules of model/ are not checked.
def test_modules_that_a_page_names_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        pytest.skip("it names modules that were renamed")
    known = modules()
    named = {name for words in code(page) for name in MODULE.findall(words)}
    missing = {n for n in named if n not in known and n.rpartition(".")[0] not in known and not (ROOT / n).exists()}
    assert missing == set()


def test_targets_of_make_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = {target for words in code(page) for target in re.findall(r"\bmake ([a-z_]+)", words)}
    assert named - set(targets) == set()
