"""The deployment file: read, frozen, and every mistake answered at once with key, value and fix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from jobs.config.deployment import Deployment, DeploymentError
from jobs.config.location import is_remote
from jobs.training.training_inputs import network_config
from model.data.config import EventSource, NetworkConfig
from model.data.transformer_config import Lora
from model.training.training_config import TrainingConfig

CONF = Path(__file__).parents[3] / "conf"
SOURCES = (EventSource(name="bill", max_events=1, max_tokens=4),)


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


def refused(content, tmp_path, *parts: str) -> None:
    """The file is refused in one message that has each of these parts."""
    with pytest.raises(DeploymentError) as caught:
        read(content, tmp_path)
    message = str(caught.value)
    for part in parts:
        assert part in message, message


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
    refused(
        content,
        tmp_path,
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
    )


def test_the_model_is_checked_with_the_rest(content, tmp_path):
    content["model"] = {
        "network": {"layer": 3, "encoder": {"widht": 3}, "backbone": {"width": 30}},
        "training": {"steps": 2.5, "stepz": 3, "learning_rate": "fast"},
    }
    content["max_reject_share"] = 2
    refused(
        content,
        tmp_path,
        "7 errors",
        "model.network.layer = 3: unknown key; did you mean 'layers'?",
        "model.network.encoder.widht = 3: unknown key; did you mean 'width'?",
        "model.network.backbone = ",
        "width 30 does not divide by 4 heads: change one of them",
        "model.training.steps = 2.5: Input should be a valid integer",
        "model.training.stepz = 3: unknown key; did you mean 'steps'?",
        "model.training.learning_rate = 'fast': Input should be a valid number",
        "max_reject_share = 2",
    )


def test_the_model_is_the_preset_with_the_file_on_top(content, tmp_path):
    content["model"] = {
        "network": {"encoder": {"layers": 1}, "adapter": "linear"},
        "training": {"learning_rate": "1e-3", "betas": [0.8, 0.9]},
    }
    model, plain = read(content, tmp_path).model, NetworkConfig.from_preset("tiny", sources=SOURCES)
    assert model.network.encoder == replace(plain.encoder, layers=1)
    assert (model.network.backbone, model.network.adapter) == (plain.backbone, "linear")
    # YAML reads 1e-3, which has no point, as a text.
    assert model.training == TrainingConfig(learning_rate=0.001, betas=(0.8, 0.9))


def test_a_pretrained_model_is_a_hub_id_or_a_folder_beside_the_file(content, tmp_path):
    content["model"] = {
        "preset": "paper",
        "network": {"encoder": {"pretrained": "../models/gte"}, "backbone": {"lora": {"r": 8, "targets": ["q_proj"]}}},
    }
    config = network_config(read(content, tmp_path))
    assert config.encoder.pretrained == str((tmp_path / "../models/gte").resolve())
    assert config.backbone.pretrained == "Qwen/Qwen2.5-0.5B-Instruct"
    assert config.backbone.lora == Lora(r=8, targets=("q_proj",))
    content["model"]["network"]["backbone"] = {"lora": {"rank": 8}}
    refused(content, tmp_path, "model.network.backbone.lora.rank = 8: unknown key")


def test_an_instruction_encoder_is_a_folder_beside_the_file_and_pools_by_the_mean(content, tmp_path):
    content["model"] = {"network": {"focus": "universal", "instruction_encoder": {"pretrained": "../models/minilm"}}}
    reader = network_config(read(content, tmp_path)).instruction_encoder
    assert (reader.pretrained, reader.pooling) == (str((tmp_path / "../models/minilm").resolve()), "mean")
    content["model"]["network"].pop("instruction_encoder")
    assert network_config(read(content, tmp_path)).instruction_encoder is None


def test_a_profiles_column_may_have_another_name_than_the_tables(content, tmp_path):
    content["attributes"] |= {
        "numbers": [{"name": "age", "column": "Age"}, "membership_days"],
        "categories": [{"name": "city_tier", "column": "cityTier"}],
    }
    deployment = read(content, tmp_path)
    assert deployment.numbers[:2] == ("age", "membership_days")
    assert deployment.categories == ("city_tier",)
    content["attributes"] |= {"numbers": [{"name": "age"}, "age", ["age"]], "categories": ["cityTier"]}
    with pytest.raises(DeploymentError) as caught:
        read(content, tmp_path)
    for part in (
        "attributes.numbers[0].column: add this key",
        "tabular columns: 'age' is named twice",
        "attributes.numbers[2] = ['age']",
        "attributes.categories[0] = 'cityTier'",
        "write {name: <such a name>, column: cityTier}",
    ):
        assert part in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("key", "name", "problem"),
    [
        ("sources", "to_embed", "sources: 'to_embed' is a name that the jobs give"),
        ("sources", "scenarios", "sources: 'scenarios' is a name that the jobs give"),
        ("sources", "attributes", "sources: 'attributes' is a name that the jobs give"),
        ("scenarios", "food_as_of", "scenarios: 'food_as_of' would name two columns of user_vectors"),
        ("scenarios", "universal_model_version", "'universal_model_version' would name two columns"),
        ("scenarios", "day", "'day' would name two columns"),
    ],
)
def test_a_name_that_is_taken_is_refused(content, tmp_path, key, name, problem):
    content[key][-1]["name"] = name
    with pytest.raises(DeploymentError, match=problem):
        read(content, tmp_path)


def test_the_stores_folder_is_one_of_this_machine(content, tmp_path):
    content["store"]["folder"] = "file:///srv/store"
    assert read(content, tmp_path).store.folder == "/srv/store"
    content["store"]["folder"] = "s3://company/store"
    content["userqa"]["as_of"] = []
    with pytest.raises(DeploymentError) as caught:
        read(content, tmp_path)
    assert "store.folder = 's3://company/store': Feast's files are read as files; name a folder" in str(caught.value)
    assert "userqa.as_of = []: " in str(caught.value)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("no column", "names no column"),
        ("{merchant", "does not parse"),
        ("{merchant!r}", "does not parse"),
        ("{}", "does not parse"),
        ("{merchant.}", "not a column name"),
        ("{2024}", "not a column name"),
        ("{`merchant}", "does not parse"),
        ("{merchant[0]}", "not a column name"),
    ],
)
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
    assert is_remote(deployment.lake)


def test_the_vector_spec_ignores_mappings_and_instructions_but_not_templates(content, tmp_path):
    before = read(content, tmp_path).vector_spec()
    content["sources"][0]["table"] = "elsewhere"
    content["scenarios"] = []
    assert read(content, tmp_path).vector_spec() == before
    content["sources"][0]["template"] = "{merchant}"
    assert read(content, tmp_path).vector_spec() != before
