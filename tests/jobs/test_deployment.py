"""The deployment file: read, frozen, and every mistake answered at once with key, value and fix."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from jobs.deployment import Deployment, DeploymentError

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def content() -> dict:
    return yaml.safe_load((CONF / "demo.yaml").read_text())


def read(content: object, folder: Path) -> Deployment:
    path = folder / "deployment.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True))
    return Deployment.read(path)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_file_is_valid(path):
    deployment = Deployment.read(path)
    assert deployment.scenario_names[0] == "universal"
    assert Path(deployment.table("bills")).parent == Path(deployment.resolve(deployment.lake))


def test_a_deployment_is_frozen(content, tmp_path):
    deployment = read(content, tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        deployment.name = "other"


def test_all_mistakes_are_told_at_once_with_key_value_and_fix(content, tmp_path):
    content["lakes"] = content.pop("lake")
    content["sources"][0]["max_events"] = 0
    content["sources"][0]["template"] = "{merchant:shout}"
    content["sources"][1]["name"] = "Mini Program"
    content["sources"][2]["name"] = "day"
    content["aggregates"][0]["source"] = "bil"
    content["aggregates"][2].pop("column")
    content["scenarios"].append({"name": "universal", "instruction": "x"})
    content["attributes"]["static"] = True
    content["userqa"]["as_of"] = ["tomorrow"]
    with pytest.raises(DeploymentError) as caught:
        read(content, tmp_path)
    message = str(caught.value)
    for part in (
        "lake: add this key",
        "lakes = '../demo/lake': unknown key; did you mean 'lake'?",
        "sources[0].max_events = 0: Input should be greater than or equal to 1",
        "template filter 'shout' is unknown; use one of",
        "sources[1].name = 'Mini Program': use lower-case letters",
        "sources: 'day' is a column of every profile; rename the source",
        "aggregates[0].source = 'bil': no such source; use one of bill",
        "function sum needs a column",
        "scenarios: 'universal' is named twice",
        "name the valid_from column, or declare `static: true`",
        "userqa.as_of[0] = 'tomorrow'",
    ):
        assert part in message, message


@pytest.mark.parametrize(("template", "problem"), [
    ("no column", "names no column"),
    ("{merchant", "does not parse"),
    ("{merchant!r}", "conversion"),
    ("{}", "empty field"),
    ("{merchant.__class__}", "not a column name"),
    ("{merchant[0]}", "not a column name"),
])
def test_a_template_can_only_name_columns_and_filters(content, tmp_path, template, problem):
    content["sources"][0]["template"] = template
    with pytest.raises(DeploymentError, match=problem):
        read(content, tmp_path)


@pytest.mark.parametrize(("text", "problem"), [("lake: [", "is not YAML"), ("- a\n- b", "must be a mapping")])
def test_a_file_that_is_no_deployment(tmp_path, text, problem):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(DeploymentError, match=problem):
        Deployment.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DeploymentError, match=r"nowhere\.yaml: No such file.*--config"):
        Deployment.read(tmp_path / "nowhere.yaml")


def test_locations_start_at_the_file_and_uris_stay(content, tmp_path):
    assert read(content, tmp_path).table("bills") == str(tmp_path.parent / "demo/lake/bills")
    content["lake"] = "s3://company/lake"
    deployment = read(content, tmp_path)
    assert deployment.table("bills") == "s3://company/lake/bills"
    assert deployment.table("s3://other/bills") == "s3://other/bills"
    assert not deployment.local


def test_shaping_ignores_mappings_and_instructions_but_not_templates(content, tmp_path):
    before = read(content, tmp_path).shaping()
    content["sources"][0]["table"] = "elsewhere"
    content["scenarios"] = []
    assert read(content, tmp_path).shaping() == before
    content["sources"][0]["template"] = "{merchant}"
    assert read(content, tmp_path).shaping() != before
