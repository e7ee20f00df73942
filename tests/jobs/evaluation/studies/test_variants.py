"""Variants of a network and its training: what each changes, and that all train."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from jobs.config.deployment import Deployment
from jobs.evaluation.figures import ALL
from jobs.evaluation.studies.ablations import variant_plans
from jobs.evaluation.studies.registry import run_study
from jobs.evaluation.studies.study import Study
from jobs.evaluation.studies.variants import VARIANTS, Plan, as_text
from jobs.training.registry import checkpoints_folder
from tests.support import shop
from tests.support.error_page import refused, row
from tests.support.study_company import company, means

ROOT = Path(__file__).parents[4]


@pytest.mark.slow
def test_every_variant_trains_and_embeds(study_lake):
    result, at = run_study(study_lake, "ablations", seeds=1, scenarios=["food"])
    names = {name + " *" * variant.paper for name, variant in VARIANTS.items()}
    for part in ("manual", "universal"):
        assert means(result, part).keys() == names
        assert all(0 <= figures["food"].mean <= 1 for figures in means(result, part).values())
    manual = [figures[ALL].mean for figures in means(result, "manual").values()]
    assert manual == sorted(manual, reverse=True)
    assert len({tuple(sorted(line.auc.items(), key=str)) for line in result.data["lines"]}) >= len(VARIANTS)
    # Three variants have switches that shop's file has already: they are the full network, trained once.
    assert len([*checkpoints_folder(study_lake).glob("*/inputs.json")]) >= len(VARIANTS) - 3
    assert means(result, "manual")["shared-encoder"] == means(result, "manual")["full *"]
    assert (at / "ablations.md").exists()


def test_what_a_variant_changes(study_lake):
    aggregates = [{"name": "spent", "source": "bill", "function": "count", "window_days": 9}]
    counted = company(study_lake.path.parent / "counted", aggregates=aggregates)
    plan = Plan.of(counted)
    changed = {name: variant.of(plan, counted) for name, variant in VARIANTS.items()}
    assert changed["full"] == plan
    assert [number.name for number in plan.config.tabular.numbers] == ["bills", "income", "spent"]
    without = changed["without-sequences"].config
    assert (without.sources, [number.name for number in without.tabular.numbers]) == ((), ["bills", "income"])
    assert not changed["without-tabular"].config.has_tabular
    assert (changed["text-only"].config.reading, changed["text-only"].rendered) == ("tokens", plan.config)
    assert (changed["without-contrastive"].training.weight_cl, changed["without-next-token"].training.weight_lm) == (
        0,
        0,
    )
    paper = changed["paper-losses"].training
    assert {*paper.loss_weights} == {"language", "contrastive"}
    assert paper.instructed_pairs == 3
    assert changed["average-pooling"].config.readout == "mean"
    assert changed["without-margin"].training.margin == 2
    # A variant whose switch the file has already is the same network: shop's encoder is shared, and it has no focus.
    same = [name for name, variant in changed.items() if variant == plan]
    assert same == ["full", "shared-encoder", "without-instruction-text", "without-focus"]


def test_the_demo_without_contrastive_losses_trains_the_language_loss_alone():
    demo = Deployment.read(ROOT / "conf" / "demo.yaml")
    changed = {name: variant.of(Plan.of(demo), demo) for name, variant in VARIANTS.items()}
    assert {*changed["full"].training.loss_weights} == {"language", "within_question", "instruction_text"}
    assert {*changed["without-contrastive"].training.loss_weights} == {"language"}
    assert changed["without-contrastive"].training.universal_pairs == 0
    assert {*changed["paper-losses"].training.loss_weights} == {"language", "contrastive"}
    assert (changed["full"].config.focus, changed["without-focus"].config.focus) == ("universal", None)


def test_a_text_too_long_keeps_the_same_share_of_every_source(tmp_path):
    long = shop.company(
        tmp_path, sources=[source | {"max_events": 10 * source["max_events"]} for source in shop.CHANGES["sources"]]
    )
    rendered = VARIANTS["text-only"].of(Plan.of(long), long).rendered
    # 240 events of 16 tokens and 100 of 8 are 4,640 tokens.
    assert [source.max_events for source in rendered.sources] == [int(240 * 1024 / 4640), int(100 * 1024 / 4640)]


def test_profiles_as_one_text(study_profiles, study_lake):
    plan = Plan.of(study_lake)
    table = as_text(study_profiles.slice(5, 1), plan.config)
    [user] = study_profiles.slice(5, 1).to_pylist()
    [[event]] = table["text"].to_pylist()
    assert all(bill["text"] in event["text"] for bill in user["bill"])
    assert f"income: {user['tabular']['income']:g}"[:12] in event["text"]


@row(
    "a variant that leaves nothing",
    said=(
        "the variant 'without-sequences' leaves nothing to train (the network has "
        "neither an event source nor a tabular column: name at least one): leave --only "
        "without-sequences out"
    ),
)
def test_a_variant_that_leaves_nothing_is_refused_where_it_is_named_and_left_out_elsewhere(wrong, study_lake):
    path = study_lake.path.parent / "bare.yaml"
    content = yaml.safe_load(study_lake.path.read_text())
    path.write_text(yaml.safe_dump({name: value for name, value in content.items() if name != "attributes"}))
    with Study.open(Deployment.read(path), "evaluate_bare", seeds=1) as bare:
        with refused(wrong):
            variant_plans(bare, ["without-sequences"])
        study_profiles, left_out = variant_plans(bare, [])
    assert [*left_out] == ["without-sequences"]
    assert study_profiles.keys() | left_out.keys() == VARIANTS.keys()
