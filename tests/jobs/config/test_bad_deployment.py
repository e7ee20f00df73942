"""Deployment files with each kind of mistake: every one is refused, with its key, the value found and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.config.deployment import Deployment
from jobs.config.log_store import require_safe_log_store
from tests.support.changed_deployment import MISSING, VALID, changed, read
from tests.support.error_page import case, refused, row

KEYS = [
    case("no lake", "lake", MISSING),
    case("no sources", "sources", MISSING, said="sources: add this key"),
    case("an empty list of sources", "sources", []),
    case("a misspelt key", "max_reject_shares", 0.1),
    case("a key that nothing is like", "zebra", 1),
    case("a key that is a number", 7, 1, said="Keys should be strings"),
    case("the key path, which the project fills in", "path", "elsewhere.yaml", said="path: unknown key; remove it"),
    case("an empty location", "lake", ""),
    case("a table of blanks", "sources.0.table", "  ", said="sources[0].table = ' ': is empty; write one"),
    case(
        "an empty optional key",
        "scenarios.0.labels",
        "",
        said="scenarios[0].labels = '': is empty; write one, or remove the key",
    ),
    case(
        "a location whose host cannot be told",
        "lake",
        "s3://[bucket/lake",
        said="lake = 's3://[bucket/lake': Invalid IPv6 URL",
    ),
    case("a name with a capital and a blank", "sources.0.name", "Mini Program"),
    case("two sources of one name", "sources.0.name", "search"),
    case(
        "a source named as a column of every profile",
        "sources.0.name",
        "ages",
        said="sources: 'ages' is a column of every profile; rename the source",
    ),
    case(
        "a source named as something of the jobs'",
        "sources.0.name",
        "to_embed",
        said="sources: 'to_embed' is a name that the jobs give to something else; rename the source",
    ),
    case("two scenarios of one name", "scenarios.1.name", "food", said="scenarios: 'food' is named twice; rename one"),
    case(
        "a scenario named universal",
        "scenarios.0.name",
        "universal",
        said="scenarios: 'universal' is named twice; rename one",
    ),
    case("a scenario whose name is another's column", "scenarios.1.name", "food_as_of"),
    case("yes for a number", "sources.0.max_events", True),
    case("a number for a day", "userqa.as_of", [20250101]),
    case("a day before 1970", "userqa.as_of", ["1969-12-31"]),
    case("attributes of no time", "attributes.static", False),
    case(
        "attributes of two kinds of time",
        "attributes.valid_from",
        "since",
        said="name the valid_from column, or declare `static: true` (one of the two)",
    ),
    case(
        "attributes without a column",
        "attributes",
        {"table": "attributes", "static": True},
        said="no column named; list `numbers` and/or `categories`, or remove the block",
    ),
    case("a profile's column with a capital", "attributes.categories", ["cityTier"]),
    case(
        "a profile's column that is a list",
        "attributes.numbers",
        [["age"]],
        said="attributes.numbers[0] = ['age']: Input should be a valid dictionary",
    ),
    case("a tabular column named twice", "attributes.categories", ["age"]),
    case(
        "an aggregate named as an attribute",
        "aggregates.0.name",
        "age",
        said="tabular columns: 'age' is named twice; rename one",
    ),
    case(
        "an unknown function",
        "aggregates.0.function",
        "median",
        said=("aggregates[0].function = 'median': unknown function; use one of count, sum, mean, min, max"),
    ),
    case("a sum of nothing", "aggregates.0.function", "sum"),
    case(
        "a count of a column", "aggregates.0.column", "amount", said="function count takes no column; remove `column`"
    ),
    case("an aggregate of no source", "aggregates.0.source", "searchs"),
    case(
        "an instruction of 2,001 characters",
        "scenarios.0.instruction",
        "x" * 2001,
        said="String should have at most 2000 characters",
    ),
    case(
        "an instruction with half a character",
        "scenarios.0.instruction",
        "games \ud83c",
        said=(
            "scenarios[0].instruction = 'games \\ud83c': Input should be a valid string, "
            "unable to parse raw data as a unicode string"
        ),
    ),
    case(
        "a scenario without an instruction",
        "scenarios.0.instruction",
        MISSING,
        said="scenarios[0].instruction: add this key",
    ),
    case("an unknown preset", "model.preset", "huge", said="model.preset = 'huge': Input should be 'tiny' or 'paper'"),
    case("an unknown precision", "model.precision", "int8", said="model.precision = 'int8': Input should be 'fp32'"),
    case(
        "a gate at another number of labels",
        "promote.least_auc",
        {50: 0.7},
        said="promote.least_auc = {50: 0.7}: has no figure for 50 labels; use some of 0, 16, 64, 256, all",
    ),
    case("no provider", "model.providers", [], said="model.providers = []: is empty; write at least one"),
    case(
        "a misspelt size",
        "model.network",
        {"encoder": {"widht": 64}},
        said="model.network.encoder.widht = 64: unknown key; did you mean 'width'?",
    ),
    case("a width that its heads do not divide", "model.network", {"backbone": {"width": 30}}),
    case("a layer fewer than one", "model.network", {"encoder": {"layers": 0}}, said="layers is 0: use at least 1"),
    case(
        "yes for a head",
        "model.network",
        {"head": True},
        said="model.network.head = True: write a number; YAML reads yes and on as true",
    ),
    case(
        "yes for a number of steps",
        "model.training.steps",
        True,
        said="steps is True: write a number; YAML reads yes and on as true",
    ),
    case("a learning rate of 0", "model.training.learning_rate", 0),
    case(
        "an infinite learning rate",
        "model.training.learning_rate",
        float("inf"),
        said="learning_rate is inf: use a finite number",
    ),
    case("a negative weight", "model.training.weight_lm", -1, said="weight_lm is -1.0: use 0 or more"),
    case(
        "betas above 1",
        "model.training.betas",
        [0.9, 1.5],
        said="betas is (0.9, 1.5): use two numbers from 0 to below 1",
    ),
    case("no pair to train on", "model.training", {"instructed_pairs": 0, "general_pairs": 0}),
    case(
        "a number in spark.conf",
        "spark.conf",
        {"spark.sql.shuffle.partitions": 4},
        said="spark.conf.spark.sql.shuffle.partitions = 4: Input should be a valid string",
    ),
    case(
        "a list for spark.conf",
        "spark.conf",
        ["spark.ui.enabled"],
        said="spark.conf = ['spark.ui.enabled']: Input should be a valid dictionary",
    ),
    case("no store", "store", MISSING, said="store: add this key"),
    case(
        "a store's folder that is no folder of this machine",
        "store.folder",
        "s3://company/store",
        said="store.folder = 's3://company/store': Feast's files are read as files; name a folder of this machine",
    ),
    case(
        "an online store of no type",
        "store.online",
        {"connection_string": "redis:6379"},
        said="has no type; add one, such as `type: sqlite` or `type: redis`",
    ),
]
TEMPLATES = [
    case("a source without a template", MISSING, said="sources[0].template: add this key"),
    case("a template without a column", "paid something"),
    case("a template {0}", "{0}"),
    case("a template {merchant!r}", "{merchant!r}"),
    case("a template {merchant:shout}", "{merchant:shout}"),
    case("a template {score:band(50,0)}", "{score:band(50,0)}"),
    case("a template {score:band(0,x)}", "{score:band(0,x)}"),
    *[
        case(f"a template {{score:{text}}}", f"{{score:{text}}}", said=f"template filter '{text}'{problem}")
        for text, problem in {
            "band()": ": '' is no number; write edges as in band(0,50,99.5)",
            "band(0,,5)": ": '' is no number",
            "band(1e3)": ": '1e3' is no number",
            "band(0,nan)": ": 'nan' is no number",
            "band(0,inf)": ": 'inf' is no number",
            "band(0 50)": ": '0 50' is no number",
            "band(1_000)": ": '1_000' is no number",
            "band(٣)": ": '٣' is no number",
            "band(0,0.0)": ": edges must grow from each to the next",
            "band(0,-0)": ": edges must grow from each to the next",
            "band(0": " is unknown; use one of text, amount_band, band",
            "band(0))": ": '0)' is no number",
            "band 0": " is unknown",
            "number(1,2)": " has edges, and number takes none; write number",
        }.items()
    ],
    case(
        "a template of 101 edges",
        f"{{score:band({','.join(map(str, range(101)))})}}",
        said="has 101 edges; use at most 100",
    ),
]
FILES = [
    case("a deployment file that is empty", b""),
    case("a deployment file that is a list", b"- name: shop\n", said="must be a mapping of keys, see conf/demo.yaml"),
    case("a deployment file that is not YAML", b"lake: [\n"),
    case("a deployment file that is not UTF-8", b"name: shop\nlake: caf\xe9\n"),
    case(
        "a deployment file with a control character",
        b"name: a\x07b\n",
        said="is not YAML: unacceptable character #x0007",
    ),
    case("a key that is written twice", b"lake: here\nname: shop\nlake: there\n"),
    case(
        "a key of a block that is written twice",
        b"store: {folder: a, project: b, folder: c}\n",
        said="the key 'folder' is written twice; remove one",
    ),
    case(
        "the 30th of February",
        b"userqa: {questions: q.yaml, as_of: [2025-02-30]}\n",
        said="'2025-02-30' is no date (day is out of range for month) in ... line 1",
    ),
    case(
        "a tag that would run a command",
        b"name: !!python/object/apply:os.system [touch ran]\n",
        said="could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    case(
        "a list ten thousand deep",
        b"lake: " + b"[" * 10_000 + b"]" * 10_000,
        said="is nested too deeply; write it flatter",
    ),
]


@row("a lake on S3 without the LogStore that makes it safe")
def test_a_lake_that_could_lose_a_commit_is_refused(wrong: str, tmp_path: Path) -> None:
    with refused(wrong):
        require_safe_log_store(read(changed("lake", "s3://company/lake"), tmp_path))


def test_the_file_without_a_mistake_is_read(tmp_path: Path) -> None:
    assert read(VALID, tmp_path).name == "shop"


@pytest.mark.parametrize(("wrong", "key", "value"), KEYS)
def test_a_wrong_value_is_refused_with_its_key(wrong: str, key: Any, value: Any, tmp_path: Path) -> None:
    with refused(wrong) as caught:
        read(changed(key, value), tmp_path)
    assert ": 1 error\n" in str(caught.value)


@pytest.mark.parametrize(("wrong", "template"), TEMPLATES)
def test_a_template_names_columns_and_filters_and_nothing_else(wrong: str, template: Any, tmp_path: Path) -> None:
    with refused(wrong) as caught:
        read(changed("sources.0.template", template), tmp_path)
    assert ": 1 error\n" in str(caught.value)


@pytest.mark.parametrize(("wrong", "content"), FILES)
def test_a_file_that_holds_no_deployment_is_refused(
    wrong: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(wrong):
        read(content, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["deployment.yaml"]  # nothing in it was run


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        case("a deployment file that is not there", "nowhere.yaml"),
        case("a folder for a deployment file", ".", said="Is a directory; name one with --config"),
    ],
)
def test_what_is_no_file_is_refused(wrong: str, path: str, tmp_path: Path) -> None:
    with refused(wrong):
        Deployment.read(tmp_path / path)
