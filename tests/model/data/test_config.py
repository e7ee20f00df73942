"""A network's config: through JSON and back, and what it refuses."""

from dataclasses import replace

import pytest

from model.data.config import EventSource, NetworkConfig
from model.data.tabular import fit_tabular
from model.errors import ConfigError
from model.training.training_config import TrainingConfig
from tests.support.made_up import TABULAR, made_up_profiles, network_config


def test_json_gives_the_same_config_back() -> None:
    config = replace(
        network_config(shared_encoder=True, adapter="linear", pooled_tokens=False),
        tabular=fit_tabular(made_up_profiles(20), TABULAR, 10),
    )
    assert config.tabular.numbers[1].edges
    assert NetworkConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["not json", "[]", '{"sources": []}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="train or export it again"):
        NetworkConfig.from_json(text)


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "neither an event source nor"), (("a", "a"), "'a' is named 2 times"), (("ages",), "'ages' is a column")],
)
def test_names_that_cannot_be_columns_are_refused(names: tuple[str, ...], message: str) -> None:
    sources = tuple(EventSource(name=name, max_events=5, max_tokens=5) for name in names)
    with pytest.raises(ConfigError, match=message):
        NetworkConfig.from_preset("tiny", sources=sources)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="one of paper, tiny"):
        NetworkConfig.from_preset("huge", sources=(EventSource(name="a", max_events=5, max_tokens=5),))
    with pytest.raises(ConfigError, match="temperature is 0"):
        TrainingConfig(temperature=0)
    with pytest.raises(ConfigError, match="teaches nothing"):
        TrainingConfig(instructed_pairs=0, general_pairs=0)
    with pytest.raises(ConfigError, match="all losses have the weight 0: raise one of weight_lm, weight_cl"):
        TrainingConfig(weight_lm=0, weight_cl=0)
    with pytest.raises(ConfigError, match="compare the users of a question, and general_pairs have none"):
        TrainingConfig(weight_lm=0, weight_cl=0, weight_within_question=1, instructed_pairs=0)
    with pytest.raises(ConfigError, match="the language loss does not read universal_pairs"):
        TrainingConfig(weight_cl=0, instructed_pairs=0, general_pairs=0, universal_pairs=4)
    with pytest.raises(ConfigError, match="warm_start is 'words': use true, false or questions"):
        TrainingConfig(warm_start="words")
    with pytest.raises(ConfigError, match="'mlp' or 'linear'"):
        network_config(adapter="none")
    with pytest.raises(ConfigError, match="head is 0"):
        network_config(head=0)
