"""Deployment files with each kind of mistake: every one is refused, with its key, the value found and the fix."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.config.deployment import Deployment
from jobs.config.log_store import require_safe_log_store
from tests.support.deployment import DEPLOYMENT
from tests.support.error_page import case, refused, row

GOOD: dict[str, Any] = {
    **DEPLOYMENT,
    "attributes": {"table": "attributes", "static": True, "numbers": ["age"], "categories": ["city"]},
    "aggregates": [{"name": "searches_30d", "source": "search", "function": "count", "window_days": 30}],
    "scenarios": [
        {"name": "food", "instruction": "Will this user order food?"},
        {"name": "film", "instruction": "Does this user like films?"},
    ],
    "eligible": {"min_events": 1},
    "max_reject_share": 0.1,
    "model": {"network": {}, "training": {"steps": 10}},
}
GONE = object()

KEYS = [
    case("no lake", "lake", GONE),
    case("no sources", "sources", GONE),
    case("an empty list of sources", "sources", []),
    case("sources that are a mapping", "sources", {"bill": {}}),
    case("a source that is a text", "sources.0", "bills"),
    case("a misspelt key", "max_reject_shares", 0.1),
    case("a key that nothing is like", "zebra", 1),
    case("a key that is a number", 7, 1),
    case("the key path, which the project fills in", "path", "elsewhere.yaml"),
    case("an empty location", "lake", ""),
    case("a table of blanks", "sources.0.table", "  "),
    case("an empty optional key", "scenarios.0.labels", ""),
    case("a number for a location", "lake", 5),
    case("a location whose host cannot be told", "lake", "s3://[bucket/lake"),
    case("a name with a capital and a blank", "sources.0.name", "Mini Program"),
    case("a name of 42 letters", "scenarios.0.name", "a" * 42),
    case("no for a name", "name", False),
    case("two sources of one name", "sources.0.name", "search"),
    case("a source named as a column of every profile", "sources.0.name", "ages"),
    case("a source named as something of the jobs'", "sources.0.name", "wanted"),
    case("two scenarios of one name", "scenarios.1.name", "food"),
    case("a scenario named universal", "scenarios.0.name", "universal"),
    case("a scenario whose name is another's column", "scenarios.1.name", "food_as_of"),
    case("no event at most", "sources.0.max_events", 0),
    case("10,001 events at most", "sources.0.max_events", 10_001),
    case("half an event at most", "sources.0.max_events", 2.5),
    case("a word for a number", "sources.0.max_events", "many"),
    case("yes for a number", "sources.0.max_events", True),
    case("3 tokens at most", "sources.0.max_tokens", 3),
    case("a window of no day", "sources.0.window_days", 0),
    case("a window of eleven years", "sources.0.window_days", 4015),
    case("a share above 1", "max_reject_share", 2),
    case("a share below 0", "max_reject_share", -0.1),
    case("a share that is not a number", "max_reject_share", float("nan")),
    case("yes for a share", "max_reject_share", True),
    case("half the users for validation", "userqa.validation_share", 0.5),
    case("no event for an eligible user", "eligible.min_events", 0),
    case("a word for a day", "userqa.as_of", ["tomorrow"]),
    case("a number for a day", "userqa.as_of", [20250101]),
    case("a day with an hour", "userqa.as_of", [datetime(2025, 1, 1, 10)]),
    case("a day before 1970", "userqa.as_of", ["1969-12-31"]),
    case("a day after 2099", "userqa.as_of", ["2100-01-01"]),
    case("no day to ask at", "userqa.as_of", []),
    case("attributes of no time", "attributes.static", False),
    case("attributes of two kinds of time", "attributes.valid_from", "since"),
    case("attributes without a column", "attributes", {"table": "attributes", "static": True}),
    case("a profile's column with a capital", "attributes.categories", ["cityTier"]),
    case("a profile's column that is a list", "attributes.numbers", [["age"]]),
    case("a tabular column named twice", "attributes.categories", ["age"]),
    case("an aggregate named as an attribute", "aggregates.0.name", "age"),
    case("an unknown function", "aggregates.0.function", "median"),
    case("a sum of nothing", "aggregates.0.function", "sum"),
    case("a count of a column", "aggregates.0.column", "amount"),
    case("an aggregate of no source", "aggregates.0.source", "searchs"),
    case("an instruction of blanks", "scenarios.0.instruction", "   "),
    case("an instruction of 2,001 characters", "scenarios.0.instruction", "x" * 2001),
    case("an instruction with half a character", "scenarios.0.instruction", "games \ud83c"),
    case("a scenario without an instruction", "scenarios.0.instruction", GONE),
    case("an unknown preset", "model.preset", "huge"),
    case("an unknown precision", "model.precision", "int8"),
    case("no provider", "model.providers", []),
    case("a misspelt size", "model.network", {"encoder": {"widht": 64}}),
    case("a width that its heads do not divide", "model.network", {"backbone": {"width": 30}}),
    case("a layer fewer than one", "model.network", {"encoder": {"layers": 0}}),
    case("yes for a head", "model.network", {"head": True}),
    case("half a step", "model.training.steps", 2.5),
    case("yes for a number of steps", "model.training.steps", True),
    case("a learning rate of 0", "model.training.learning_rate", 0),
    case("an infinite learning rate", "model.training.learning_rate", float("inf")),
    case("a negative weight", "model.training.weight_lm", -1),
    case("betas above 1", "model.training.betas", [0.9, 1.5]),
    case("no pair to train on", "model.training", {"instructed_pairs": 0, "general_pairs": 0}),
    case("profiles kept for a week", "retention", {"rows": 7}),
    case("former versions kept for a day", "retention", {"files": 1}),
    case("yes for days that are kept", "retention", {"rejected": True}),
    case("a number in spark.conf", "spark.conf", {"spark.sql.shuffle.partitions": 4}),
    case("a list for spark.conf", "spark.conf", ["spark.ui.enabled"]),
    case("no store", "store", GONE),
    case("a store's folder that is no folder of this machine", "store.folder", "s3://company/store"),
    case("an online store of no type", "store.online", {"connection_string": "redis:6379"}),
]
TEMPLATES = [
    case("a source without a template", GONE),
    case("an empty template", ""),
    case("a template that is a number", 5),
    case("a template without a column", "paid something"),
    case("a template {merchant", "{merchant"),
    case("a template merchant}", "merchant}"),
    case("a template {}", "{}"),
    case("a template {0}", "{0}"),
    case("a template { merchant }", "{ merchant }"),
    case("a template {merchant.__class__}", "{merchant.__class__}"),
    case("a template {merchant[0]}", "{merchant[0]}"),
    case("a template {merchant!r}", "{merchant!r}"),
    case("a template {merchant:>10}", "{merchant:>10}"),
    case("a template {merchant:{amount}}", "{merchant:{amount}}"),
    case("a template {merchant:shout}", "{merchant:shout}"),
    case("a template ${env:HOME}", "${env:HOME}"),
    case("a template ${jndi:ldap://host}", "${jndi:ldap://host}"),
    case("a template {{ merchant }}", "{{ merchant }}"),
    case("a template {% if merchant %}", "{% if merchant %}"),
    case("a template {__import__('os').system('id')}", "{__import__('os').system('id')}"),
    case("a template {merchant') OR ('1'='1}", "{merchant') OR ('1'='1}"),
    case("a template {merchant`; DROP TABLE bills}", "{merchant`; DROP TABLE bills}"),
]
FILES = [
    case("a deployment file that is empty", b""),
    case("a deployment file that is a list", b"- name: shop\n"),
    case("a deployment file that is not YAML", b"lake: [\n"),
    case("a deployment file that is not UTF-8", b"name: shop\nlake: caf\xe9\n"),
    case("a deployment file with a control character", b"name: a\x07b\n"),
    case("a key that is written twice", b"lake: here\nname: shop\nlake: there\n"),
    case("a key of a block that is written twice", b"store: {folder: a, project: b, folder: c}\n"),
    case("the 30th of February", b"userqa: {questions: q.yaml, as_of: [2025-02-30]}\n"),
    case("a tag that would run a command", b"name: !!python/object/apply:os.system [touch ran]\n"),
    case("a list ten thousand deep", b"lake: " + b"[" * 10_000 + b"]" * 10_000),
]


def changed(key: Any, value: Any) -> dict[Any, Any]:
    """`GOOD` with one value changed; `sources.0.name` is the name of its first source."""
    content = deepcopy(GOOD)
    *way, last = [int(step) if step.isdigit() else step for step in key.split(".")] if isinstance(key, str) else [key]
    block: Any = content
    for step in way:
        block = block[step]
    if value is GONE:
        del block[last]
    else:
        block[last] = value
    return content


def read(content: Any, folder: Path) -> Deployment:
    path = folder / "deployment.yaml"
    path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
    return Deployment.read(path)


@row("a lake on S3 without the LogStore that makes it safe")
def test_a_lake_that_could_lose_a_commit_is_refused(wrong: str, tmp_path: Path) -> None:
    with refused(wrong):
        require_safe_log_store(read(changed("lake", "s3://company/lake"), tmp_path))


def test_the_file_without_a_mistake_is_read(tmp_path: Path) -> None:
    assert read(GOOD, tmp_path).name == "shop"


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
    [case("a deployment file that is not there", "nowhere.yaml"), case("a folder for a deployment file", ".")],
)
def test_what_is_no_file_is_refused(wrong: str, path: str, tmp_path: Path) -> None:
    with refused(wrong):
        Deployment.read(tmp_path / path)
