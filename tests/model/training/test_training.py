"""Training: it learns, it goes on where it was killed, and it fits on the training split alone."""

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from model.data.config import NetworkConfig
from model.data.pairs import PairError
from model.data.transformer_config import BackboneConfig, EncoderConfig, Lora
from model.errors import ConfigError
from model.network.inference import embed, generate
from model.training.checkpoint import CheckpointError, load_checkpoint
from model.training.dataset import Batches, prepare_dataset
from model.training.training import initialise, train
from model.training.training_config import TrainingConfig
from model.training.training_loop import learning_rate
from tests.support.made_up import made_up_pairs, made_up_profiles, network_config, yes_no_tables
from tests.support.pretrained import save_encoder, save_language_model

SHORT = TrainingConfig(
    steps=7, profiles_per_step=8, warmup_steps=2, validate_every=3, save_every=2, validation_profiles=6
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Batches of eight gain nothing from threads, and lose much where tests run side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Killed(Exception):
    pass


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Interrupt the training at the record of this step, which follows its validation."""

    def emit(record: logging.LogRecord) -> None:
        if record.getMessage().startswith(f"step {step} "):
            raise Killed

    logger, handler = logging.getLogger("model"), logging.Handler()
    handler.emit = emit  # type: ignore[method-assign]
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with pytest.raises(Killed):
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture(scope="module")
def profiles() -> pa.Table:
    return made_up_profiles(40, events=6, searches=2)


@pytest.fixture(scope="module")
def pairs(profiles: pa.Table) -> pa.Table:
    return made_up_pairs(profiles)


def small() -> NetworkConfig:
    config = network_config()
    return replace(config, encoder=replace(config.encoder, layers=1), backbone=replace(config.backbone, layers=1))


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def lines_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_ten_pairs_are_learnt_to_the_letter(tmp_path: Path) -> None:
    profiles = made_up_profiles(12, events=6, searches=2).slice(2)
    answers = [f"Answer {number}: 用户 likes {'tea' * number}." for number in range(10)]
    question = "What does this user like?"
    pairs = pa.table(
        {
            "user_id": profiles["user_id"],
            "as_of": profiles["as_of"],
            "instruction": pa.array([question] * 10),
            "answer": pa.array(answers),
            "split": pa.array(["train"] * 10),
        }
    )
    training = TrainingConfig(steps=150, profiles_per_step=10, learning_rate=4e-3, warmup_steps=10, validate_every=1000)
    folder = train(profiles, pairs, small(), training, tmp_path / "checkpoint")
    network, tokenizers, _ = load_checkpoint(folder)
    assert generate(network, tokenizers, profiles, question) == answers
    # The loss falls for both terms, and users stand nearest to their own answers.
    curve = metrics(folder)["curve"]
    assert curve["language"][-1] < 0.05 < 3 < curve["language"][0]
    users = embed(network, tokenizers, profiles, [question])[:, 0]
    with torch.no_grad():
        answer_vectors = network.encode_answers(tokenizers.answer_ids(answers), np.arange(10)).numpy()
    assert (users @ answer_vectors.T).argmax(1).tolist() == list(range(10))


def test_frozen_encoders_stay_and_their_vectors_are_made_once(
    profiles: pa.Table, pairs: pa.Table, tmp_path: Path
) -> None:
    """Vectors made once give the curve of encoders that run at every step with a rate near zero."""
    frozen = replace(SHORT, encoder_rate=0.0, max_grad_norm=1e9)  # clipped, gradients of encoders would count too
    moving = replace(frozen, encoder_rate=1e-9)
    still = train(profiles, pairs, small(), frozen, tmp_path / "frozen")
    question = train(profiles, pairs, small(), moving, tmp_path / "moving")
    start = train(profiles, pairs, small(), replace(frozen, steps=0), tmp_path / "start")
    result = [json.loads((path / "metrics.json").read_text()) for path in (still, question)]
    np.testing.assert_allclose(*[metrics["curve"]["loss"] for metrics in result], rtol=1e-4)
    np.testing.assert_allclose(*[[part["loss"] for part in metrics["validation"]] for metrics in result], rtol=1e-4)
    (before, _, _), (after, _, _) = load_checkpoint(start), load_checkpoint(still)
    for name, weight in before.state_dict().items():
        assert torch.equal(weight, after.state_dict()[name]) == name.startswith("encoders."), name


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder_rate": 0.0},
        {"profiles_per_forward": 3, "precision": "bf16", "gradient_checkpointing": True},
        {
            "weight_within_question": 1.0,
            "weight_instruction_text": 0.5,
            "universal_pairs": 3,
            "warm_start": "questions",
        },
    ],
)
def test_a_killed_run_goes_on_the_same_curve(tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict) -> None:
    profiles, pairs = yes_no_tables(40, events=6, searches=2)
    training = replace(SHORT, **changes)
    whole = train(profiles, pairs, small(), training, tmp_path / "whole")

    killed = tmp_path / "killed"
    with killed_at(6):
        train(profiles, pairs, small(), training, killed)
    assert {path.name for path in killed.iterdir()} == {"state-4", "metrics.jsonl", "curve.png"}
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        load_checkpoint(killed)
    (killed / "state.part").mkdir()  # a kill amid saving

    caplog.set_level(logging.INFO, "model")
    # The tables are read again, in another order.
    turned = profiles.take(np.arange(len(profiles))[::-1]), pairs.take(np.arange(len(pairs))[::-1])
    steps: list[tuple[int, int]] = []
    train(*turned, small(), training, killed, progress=lambda *done: steps.append(done))
    assert any("going on after step 4" in line for line in caplog.messages)
    assert steps == [(4, 7), (5, 7), (6, 7), (7, 7)]
    assert not list(killed.glob("state*"))
    assert lines_of(killed) == [pytest.approx(line, abs=1e-5) for line in lines_of(whole)]
    for name, values in metrics(whole)["curve"].items():
        assert len(values) == 7
        assert metrics(killed)["curve"][name] == pytest.approx(values, abs=1e-5)
    assert [scored["step"] for scored in metrics(killed)["validation"]] == [3, 6, 7]
    weights, again = load_checkpoint(whole)[0].state_dict(), load_checkpoint(killed)[0].state_dict()
    assert max((weights[name] - again[name]).abs().max().item() for name in weights) < 1e-5


def test_a_finished_run_is_left_as_it_is_and_another_starts_afresh(
    profiles: pa.Table, pairs: pa.Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = replace(SHORT, steps=2)
    folder = train(profiles, pairs, small(), short, tmp_path)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    caplog.set_level(logging.INFO, "model")
    train(profiles, pairs, small(), short, folder)
    assert "nothing to do" in caplog.messages[-1]
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    train(profiles, pairs, small(), short, folder, seed=1)
    assert (folder / "model.safetensors").stat().st_mtime_ns > written
    assert metrics(folder)["seed"] == 1


def test_a_state_of_other_data_is_not_gone_on_from(
    profiles: pa.Table, pairs: pa.Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with killed_at(3):
        train(profiles, pairs, small(), SHORT, tmp_path)
    caplog.set_level(logging.INFO, "model")
    train(profiles.slice(0, 30), made_up_pairs(profiles.slice(0, 30)), small(), SHORT, tmp_path)
    assert any("starting afresh" in line for line in caplog.messages)
    assert len(metrics(tmp_path)["curve"]["loss"]) == 7


@pytest.mark.slow
def test_a_killed_run_of_adapted_models_goes_on_the_same_curve(
    profiles: pa.Table, pairs: pa.Table, tmp_path: Path
) -> None:
    """Dropout falls where it fell, whatever was read before; a state holds what is trained and no base weight."""
    lora, sizes = Lora(r=2, alpha=8, dropout=0.3), {"layers": 1, "heads": 1, "feedforward": 1, "vocabulary": 1}
    encoder, language_model = save_encoder(tmp_path / "e", "bert"), save_language_model(tmp_path / "l", "qwen2")
    config = replace(
        network_config(),
        encoder=EncoderConfig(width=1, **sizes, pretrained=str(encoder), lora=lora),
        backbone=BackboneConfig(width=1, kv_heads=1, **sizes, pretrained=str(language_model), lora=lora),
    )
    training = replace(SHORT, profiles_per_forward=3, gradient_checkpointing=True, patience=10)
    whole = train(profiles, pairs, config, training, tmp_path / "whole")

    killed = tmp_path / "killed"
    with killed_at(6):
        train(profiles, pairs, config, training, killed)
    names = load_file(killed / "state-4" / "weights.safetensors")
    assert any("lora_A" in name for name in names)
    assert not any("base_layer" in name or "embed_tokens.weight" in name for name in names)
    torch.manual_seed(1)
    train(profiles, pairs, config, training, killed)
    assert lines_of(killed) == [pytest.approx(line, rel=1e-5) for line in lines_of(whole)]
    plain = replace(training, gradient_checkpointing=False)
    assert lines_of(train(profiles, pairs, config, plain, tmp_path / "plain")) == [
        pytest.approx(line, rel=1e-5) for line in lines_of(whole)
    ]


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best(
    profiles: pa.Table, pairs: pa.Table, tmp_path: Path
) -> None:
    training = replace(
        SHORT, steps=30, learning_rate=0.02, validate_every=1, save_every=1, patience=2, validation_profiles=40
    )
    whole = metrics(train(profiles, pairs, small(), training, tmp_path / "whole"))
    losses = [scored["loss"] for scored in whole["validation"]]
    best = 1 + losses.index(min(losses))
    assert 1 < best == whole["checkpoint_step"]
    assert len(losses) == best + 2 < 30

    killed = tmp_path / "killed"
    with killed_at(best + 1):
        train(profiles, pairs, small(), training, killed)
    weights = load_file(killed / f"state-{best}" / "weights.safetensors")
    with killed_at(best + 2):  # the last validation: what is best is known from the saved state alone
        train(profiles, pairs, small(), training, killed)
    train(profiles, pairs, small(), training, killed)
    assert metrics(killed)["curve"] == {name: pytest.approx(of, abs=1e-5) for name, of in whole["curve"].items()}
    for folder in (tmp_path / "whole", killed):
        kept = load_checkpoint(folder)[0].state_dict()
        assert max((kept[name] - weight).abs().max().item() for name, weight in weights.items()) < 1e-5

    with pytest.raises(ConfigError, match="patience waits for a validation loss"):
        train(profiles, made_up_pairs(profiles, validation=0), small(), training, tmp_path / "none")


def test_checkpointed_layers_are_read_again_and_change_nothing(
    profiles: pa.Table, pairs: pa.Table, tmp_path: Path
) -> None:
    read: list[Counter[str]] = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda part, _: read[-1].update([type(part).__name__])
    )
    curves = []
    for checkpointed in (False, True):
        read.append(Counter())
        training = replace(SHORT, steps=3, gradient_checkpointing=checkpointed)
        folder = train(profiles, pairs, network_config(), training, tmp_path / str(checkpointed))
        curves.append(metrics(folder)["curve"])
    hook.remove()
    assert curves[1] == {name: pytest.approx(values, abs=1e-5) for name, values in curves[0].items()}
    for of_a_layer in ("Qwen2MLP", "BertSelfAttention"):
        assert read[1][of_a_layer] > read[0][of_a_layer] > 0


def test_mlflow_is_told_each_step_once(
    profiles: pa.Table, pairs: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)

    with killed_at(6):
        train(profiles, pairs, small(), SHORT, tmp_path / "run")
    folder = train(profiles, pairs, small(), SHORT, tmp_path / "run")
    client = mlflow.MlflowClient(tracking_uri=uri)
    [run] = client.search_runs([client.get_experiment_by_name("instructue").experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["temperature"] == "0.07"
    for name in ("loss", "validation_contrastive"):
        logged = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        assert logged == [(line["step"], pytest.approx(line[name], abs=1e-5)) for line in lines_of(folder)]


@pytest.mark.parametrize("missing", [True, False])
def test_training_does_without_an_mlflow_that_fails(
    profiles: pa.Table,
    pairs: pa.Table,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    missing: bool,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://to-be-found")
    if missing:
        monkeypatch.setitem(sys.modules, "mlflow", None)
    else:
        pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    caplog.set_level(logging.INFO, "model")
    folder = train(profiles, pairs, small(), replace(SHORT, steps=1), tmp_path)
    [said] = [line for line in caplog.messages if "MLflow" in line or "mlflow" in line]
    assert ("not installed" if missing else "nowhere://to-be-found takes no metrics") in said
    assert [line["step"] for line in lines_of(folder)] == [1]
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_embeds_as_it_did_when_written(profiles: pa.Table, pairs: pa.Table, tmp_path: Path) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    one = initialise(profiles, pairs, small(), tmp_path / "one")
    assert torch.equal(torch.random.get_rng_state(), before)
    two = initialise(profiles, pairs, small(), tmp_path / "two")
    other = initialise(profiles, pairs, small(), tmp_path / "other", seed=1)
    files = {"config.json", "model.safetensors", "event_tokenizer.json", "language_tokenizer.json", "metrics.json"}
    assert {path.name for path in one.iterdir()} == files
    vectors = [embed(*load_checkpoint(folder)[:2], profiles, [None]) for folder in (one, two, other)]
    assert np.array_equal(vectors[0], vectors[1])
    assert np.abs(vectors[0] - vectors[2]).max() > 0.01


def test_everything_is_fitted_on_the_training_split_alone(profiles: pa.Table, pairs: pa.Table) -> None:
    split = dict(zip(pairs["user_id"].to_pylist(), pairs["split"].to_pylist(), strict=True))
    rows = profiles.to_pylist()
    for row in rows:
        if split[row["user_id"]] == "validation":
            row["tabular"] = {"bills": 1e9, "income": 1e9, "city": "elsewhere"}
            row["bill"] = [{**event, "text": "ზზზზზზ"} for event in row["bill"]]
    changed = pa.Table.from_pylist(rows, schema=profiles.schema)
    config, tokenizers, _, held_out = prepare_dataset(profiles, pairs, small(), SHORT)
    config_2, tokenizers_2, _, held_out_2 = prepare_dataset(changed, pairs, small(), SHORT)
    assert config_2 == config
    assert tokenizers_2.event.to_str() == tokenizers.event.to_str()
    assert held_out_2.profiles.categories_UC.max() == 0 < held_out.profiles.categories_UC.max()
    assert config.encoder.vocabulary == tokenizers.event.get_vocab_size()


def test_batches_are_a_function_of_seed_and_step(profiles: pa.Table, pairs: pa.Table) -> None:
    _, _, examples, _ = prepare_dataset(profiles, pairs, small(), SHORT)
    one, two, other = (Batches(examples, SHORT, seed) for seed in (0, 0, 1))
    steps = [9, 2, 5, 2]  # in any order
    for step in steps:
        assert np.array_equal(examples.collate(one.batch(step)).ids_BL, examples.collate(two.batch(step)).ids_BL)
    assert any(
        not np.array_equal(examples.collate(one.batch(step)).ids_BL, examples.collate(other.batch(step)).ids_BL)
        for step in steps
    )
    whole = replace(SHORT, profiles_per_step=1)
    single, users = Batches(examples, whole, 0), len(examples.profiles)
    seen = [user for step in range(users) for user in single.batch(step).users_B]
    assert sorted(seen) == [*range(users)]  # every profile once an epoch


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    training = TrainingConfig(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(step, training) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert all(before > after for before, after in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] < 0.001


def test_pairs_that_cannot_be_trained_on_are_refused(profiles: pa.Table, pairs: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(PairError, match="no pair has the split 'train'"):
        train(profiles, made_up_pairs(profiles, validation=1.1), small(), SHORT, tmp_path)
    with pytest.raises(PairError, match=r"no column 'is_none'.*run userqa again"):
        train(profiles, pairs, small(), replace(SHORT, weight_within_question=1.0), tmp_path)
    all_none = pairs.append_column("is_none", pa.array([True] * len(pairs)))
    with pytest.raises(PairError, match="one answer beside their `none`, and there is none: add questions with yes_"):
        train(profiles, all_none, small(), replace(SHORT, weight_instruction_text=1.0), tmp_path)


def test_a_checkpoint_of_another_shape_is_refused(profiles: pa.Table, pairs: pa.Table, tmp_path: Path) -> None:
    folder = initialise(profiles, pairs, small(), tmp_path)
    config = load_checkpoint(folder)[2]
    narrow = replace(config, backbone=replace(config.backbone, feedforward=64))
    (folder / "config.json").write_text(narrow.to_json())
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        load_checkpoint(folder)
