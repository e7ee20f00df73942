"""The network: what reaches a vector, what must not, and what learns."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F

from model.data.config import EventSource, NetworkConfig, Tabular
from model.data.pair_batch import PairBatch
from model.data.profiles import read_profiles
from model.data.segments import PADDING
from model.data.text import Tokenizers
from model.network.inference import embed, instruction_vectors
from model.network.network import InstructUE
from model.network.packing import pack
from model.network.tensors import PairOutputs
from model.training.dataset import TrainingDataset, prepare_dataset
from model.training.losses import Losses, contrastive_loss, joint_loss, language_loss
from model.training.training_config import TrainingConfig
from tests.support.made_up import TABULAR, made_up_pairs, made_up_profiles, network_config

TOLERANCE = 1e-5
USER = 2
INSTRUCTIONS = ["What does this user like?", None, "How many bills does this user have?"]
SWITCHES = {
    "whole": {},
    "shared": {"shared_encoder": True},
    "plain": {"adapter": "linear", "pooled_tokens": False, "time_bands": False},
    "averaged": {"readout": "mean"},
    "headed": {"head": 24},
}


@dataclass(frozen=True)
class Example:
    network: InstructUE
    tokenizers: Tokenizers
    dataset: TrainingDataset
    profiles: pa.Table

    def batch(self, *users: int, seed: int = 0) -> PairBatch:
        drawn = self.dataset.sample(np.array(users), TrainingConfig(), np.random.default_rng(seed))
        return self.dataset.collate(drawn)

    def forward(self, batch: PairBatch) -> PairOutputs:
        return self.network(batch, self.dataset.event_ids, self.dataset.answer_ids)

    def losses(self, batch: PairBatch) -> Losses:
        output = self.forward(batch)
        users_QH, answers_QH, _ = output.embeddings_3QH
        terms = {
            "language": language_loss(output.logits_NV, output.tokens_N),
            "contrastive": contrastive_loss(users_QH, answers_QH, torch.from_numpy(batch.answer_Q)),
        }
        return joint_loss(terms, {"language": 1.0, "contrastive": 1.0})


def make(**switches: object) -> Example:
    profiles = made_up_profiles(24)
    config, tokenizers, dataset, _ = prepare_dataset(
        profiles, made_up_pairs(profiles, validation=0), network_config(**switches), TrainingConfig()
    )
    torch.manual_seed(0)
    network = InstructUE(config).eval()
    # Weights as strong as trained ones: as initialised, attention is flat, and a leak would hardly show.
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() == 2:
                weight.normal_(std=1.0 if "embed" in name else weight.shape[1] ** -0.5)
    return Example(network, tokenizers, dataset, profiles)


@pytest.fixture(scope="module", params=list(SWITCHES))
def example(request: pytest.FixtureRequest) -> Example:
    return make(**SWITCHES[request.param])


def embeddings(example: Example, profiles: pa.Table, instructions: list[str | None]) -> np.ndarray:
    return embed(example.network, example.tokenizers, profiles, instructions)


# What reaches a vector.


def test_packed_is_one_by_one(example: Example) -> None:
    together = embeddings(example, example.profiles, INSTRUCTIONS)
    assert np.linalg.norm(together, axis=-1) == pytest.approx(1.0, abs=1e-5)
    alone = [
        np.concatenate([embeddings(example, example.profiles.slice(user, 1), [text]) for text in INSTRUCTIONS], axis=1)
        for user in range(8)
    ]
    assert np.abs(together[:8] - np.concatenate(alone)).max() < TOLERANCE
    assert np.abs(together[:, 0] - together[:, 2]).max() > 0.01


def test_a_vector_is_that_of_a_plain_causal_sequence(example: Example) -> None:
    """Without masks, padding or positions of ours: Qwen2 on [profile, instruction, <USER>] by its own
    defaults.
    """
    together = embeddings(example, example.profiles, INSTRUCTIONS)
    network = example.network
    with torch.no_grad():
        for user in (0, 1, 5):
            read = example.dataset.profiles.batch(np.array([user]))
            tokens_BPH, mask_BP = network.read_profile(network.profile_tensors(read, example.dataset.event_ids))
            for k, text in enumerate(INSTRUCTIONS):
                asked_H, _ = instruction_vectors(network, example.tokenizers, [text])
                sequence = torch.cat([tokens_BPH[:, mask_BP[0] == 1], asked_H], dim=1)
                states = network.decoder(inputs_embeds=sequence).last_hidden_state[0]
                hidden = states.mean(0) if network.config.readout == "mean" else states[-1]
                if network.config.head:
                    hidden = network.head.weight @ hidden
                assert np.abs(F.normalize(hidden, dim=-1).numpy() - together[user, k]).max() < TOLERANCE


def test_an_answer_is_read_alone_up_to_its_end(example: Example) -> None:
    ids = example.dataset.answer_ids
    with torch.no_grad():
        vectors = example.network.encode_answers(ids, np.arange(len(ids)))
        for answer in range(len(ids)):
            hidden = example.network.decoder(torch.from_numpy(ids[answer])[None]).last_hidden_state[0, -1]
            if example.network.config.head:
                hidden = example.network.head.weight @ hidden
            assert (F.normalize(hidden, dim=-1) - vectors[answer]).abs().max() < TOLERANCE


def test_a_profile_has_its_tokens_in_the_deployments_order() -> None:
    example = make()
    batch = example.dataset.profiles.batch(np.arange(6))
    tensors = example.network.profile_tensors(batch, example.dataset.event_ids)
    with torch.no_grad():
        tokens, mask = example.network.read_profile(tensors)
    bills, searches = (source.mask_BN for source in batch.sources)
    boundaries = example.network.boundaries.weight
    pooled = 3
    assert mask.sum(1).tolist() == (pooled + 2 + bills.sum(1) + 2 + searches.sum(1) + 3).tolist()
    close_bill = pooled + 1 + bills.shape[1]
    assert torch.equal(tokens[0, close_bill], boundaries[1])
    assert torch.equal(tokens[0, close_bill + 2 + searches.shape[1]], boundaries[3])
    assert torch.equal(tokens[0, -3], boundaries[4])
    assert torch.equal(tokens[0, -1], boundaries[5])
    ages = example.network.age_bands.weight[torch.from_numpy(batch.sources[0].age_B)]
    assert torch.equal(tokens[:, pooled], boundaries[0] + ages)
    # A pooled token is its source's adapter on the mean of the user's event vectors.
    real = torch.from_numpy(bills[3] == 1)
    mean = tensors.events_BNE[0][3][real].mean(0)
    assert torch.allclose(tokens[3, 0], example.network.source_adapters[0](mean), atol=1e-5)


@pytest.mark.parametrize("tabular", [TABULAR, Tabular()], ids=["tabular", "none"])
@pytest.mark.parametrize("pooled", [True, False])
def test_a_sequence_is_its_fixed_tokens_its_events_and_its_instructions(
    monkeypatch: pytest.MonkeyPatch, pooled: bool, tabular: Tabular
) -> None:
    config = replace(network_config(pooled_tokens=pooled), tabular=tabular)
    network, profiles = InstructUE(config), read_profiles(made_up_profiles(9), config)
    texts = [torch.zeros(len(source.texts), config.encoder.width) for source in profiles.sources]
    laid_out: list[torch.Tensor] = []
    monkeypatch.setattr("model.network.network.pack", lambda s, dtype: laid_out.append(s) or pack(s, dtype))
    mask_KI = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    with torch.no_grad():
        tensors = network.profile_tensors(profiles.batch(np.arange(9)), texts)
        network.forward_users(tensors, torch.zeros(2, 4, config.backbone.width), mask_KI)
    [segments_BS] = laid_out
    tokens_B = (segments_BS != PADDING).sum(1)
    assert tokens_B.tolist() == (config.fixed_tokens + profiles.lengths_U + 5).tolist()
    assert len(set(tokens_B.tolist())) > 3


@pytest.mark.parametrize(
    ("switches", "absent"),
    [
        ({"pooled_tokens": False}, "user_adapter"),
        ({"time_bands": False}, "gap_bands"),
        ({"shared_encoder": True}, "encoders.1"),
    ],
)
def test_a_switch_takes_its_part_away(switches: dict[str, bool], absent: str) -> None:
    whole = {name for name, _ in InstructUE(network_config()).named_parameters()}
    without = {name for name, _ in InstructUE(network_config(**switches)).named_parameters()}
    assert any(name.startswith(absent) for name in whole)
    assert not any(name.startswith(absent) for name in without)


@pytest.mark.parametrize("change", ["text", "gap", "age", "number", "category", "order"])
def test_every_part_of_a_profile_reaches_the_vector(change: str) -> None:
    example = make()
    rows = example.profiles.slice(5, 1).to_pylist()
    row = rows[0]
    if change == "text":
        row["bill"][3]["text"] = "paid ~64 for books at app"
    elif change == "gap":
        row["bill"][3]["gap"] = (row["bill"][3]["gap"] + 3) % 10
    elif change == "age":
        row["ages"]["bill"] = (row["ages"]["bill"] + 3) % 10
    elif change == "number":
        row["tabular"]["income"] = 1.0
    elif change == "category":
        row["tabular"]["city"] = None if row["tabular"]["city"] else "city-1"
    else:
        row["bill"][2]["text"], row["bill"][7]["text"] = row["bill"][7]["text"], row["bill"][2]["text"]
    changed = pa.Table.from_pylist(rows, schema=example.profiles.schema)
    moved = embeddings(example, changed, INSTRUCTIONS) - embeddings(example, example.profiles.slice(5, 1), INSTRUCTIONS)
    assert (np.abs(moved).max(axis=-1) > 1e-4).all()


def test_a_training_step_reads_the_vectors_that_are_served(example: Example) -> None:
    """Whatever follows `<USER>`: the answer is in the same suffix."""
    batch = example.batch(3, 7, 2)
    with torch.no_grad():
        users_QH = example.forward(batch).embeddings_3QH[0].numpy()
    texts = [example.tokenizers.language.decode(ids.tolist()) for ids in example.dataset.instruction_ids]
    rows = example.profiles.take([3, 7, 2])
    for q, (row, column) in enumerate(zip(batch.user_row_Q, batch.user_column_Q, strict=True)):
        suffix = batch.segments_BL[row] == batch.segments_BL[row, column]
        question = batch.ids_BL[row, suffix & (np.arange(suffix.size) < column)]
        text = example.tokenizers.language.decode(question.tolist()) if question.size else None
        assert text is None or text in texts
        assert np.abs(embeddings(example, rows.slice(row, 1), [text])[0, 0] - users_QH[q]).max() < TOLERANCE


def test_a_profile_as_plain_text_is_read_as_the_language_model_reads_text() -> None:
    """[boundary, the text's tokens, boundary, instruction, <USER>]: no encoder, no adapter."""
    text = pa.array(
        [[{"event_time": None, "text": f"bill: coffee {user}; search: mall", "gap": None}] for user in range(24)],
        pa.list_(made_up_profiles(1).schema.field("bill").type.value_type),
    )
    whole = made_up_profiles(24)
    profiles = whole.select(["user_id", "as_of", "ages"]).append_column("bill", text)
    config = NetworkConfig.from_preset(
        "tiny",
        sources=(EventSource(name="bill", max_events=1, max_tokens=5),),
        reading="tokens",
        pooled_tokens=False,
        time_bands=False,
    )
    config, tokenizers, _, _ = prepare_dataset(profiles, made_up_pairs(whole, validation=0), config, TrainingConfig())
    torch.manual_seed(0)
    network = InstructUE(config).eval()
    assert not len(network.encoders)
    result = embed(network, tokenizers, profiles, [None, "Likes?"])
    ids = tokenizers.language.encode("bill: coffee 5; search: mall", add_special_tokens=False).ids
    assert len(ids) > 5
    with torch.no_grad():
        asked_IH, _ = instruction_vectors(network, tokenizers, ["Likes?"])
        words_NH = network.token_vectors(torch.tensor(ids[-5:]))
        around = network.boundaries.weight
        sequence = torch.cat([around[:1], words_NH, around[1:], asked_IH[0]])[None]
        expected = F.normalize(network.decoder(inputs_embeds=sequence).last_hidden_state[0, -1], dim=-1)
    assert np.abs(expected.numpy() - result[5, 1]).max() < TOLERANCE


def test_a_network_without_sources_reads_the_tabular_token_alone() -> None:
    profiles = made_up_profiles(24)
    config = NetworkConfig.from_preset("tiny", sources=(), tabular=TABULAR)
    config, tokenizers, dataset, _ = prepare_dataset(
        profiles, made_up_pairs(profiles, validation=0), config, TrainingConfig()
    )
    network = InstructUE(config).eval()
    with torch.no_grad():
        tokens, mask = network.read_profile(network.profile_tensors(dataset.profiles.batch(np.arange(4)), ()))
    assert tokens.shape[1] == config.fixed_tokens == 3
    assert mask.all()
    before = embed(network, tokenizers, profiles, [None])
    other = embed(network, tokenizers, profiles.set_column(2, "bill", made_up_profiles(24, seed=3)["bill"]), [None])
    assert np.array_equal(before, other)
    assert np.abs(before[0] - before[1]).max() > 1e-4


# What must not reach a vector.


def change_suffix(batch: PairBatch, q: int, example: Example, part: str) -> PairBatch:
    """Replace every instruction or answer token of one pair by another token."""
    ids = batch.ids_BL.copy()
    row, column = batch.user_row_Q[q], batch.user_column_Q[q]
    mine = batch.segments_BL[row] == batch.segments_BL[row, column]
    at = np.arange(len(mine))
    chosen = mine & ((at < column) if part == "instruction" else (at > column))
    assert chosen.any()
    vocabulary = example.network.config.backbone.vocabulary
    specials = example.tokenizers.user + 1
    ids[row, chosen] = specials + (ids[row, chosen] + 7) % (vocabulary - specials)
    return replace(batch, ids_BL=ids)


@pytest.mark.parametrize("part", ["instruction", "answer"])
def test_another_suffix_changes_nothing(example: Example, part: str) -> None:
    batch = example.batch(5, 2, 9)
    segment_Q = batch.segments_BL[batch.user_row_Q, batch.user_column_Q]
    asked_Q = batch.segments_BL[batch.user_row_Q, batch.user_column_Q - 1] == segment_Q
    q = int(np.flatnonzero(asked_Q & (segment_Q == 2))[0])  # one with an instruction, between two others
    with torch.no_grad():
        before = example.forward(batch)
        after = example.forward(change_suffix(batch, q, example, part))
    moved_Q = (after.embeddings_3QH[0] - before.embeddings_3QH[0]).abs().amax(-1)
    others = torch.arange(len(moved_Q)) != q
    assert moved_Q[others].max() < TOLERANCE
    assert (moved_Q[q] > 0.01) == (part == "instruction")  # its own answer comes after <USER>
    row_N, column_N = np.nonzero(batch.targets_BL != -1)
    own_N = (row_N == batch.user_row_Q[q]) & (batch.segments_BL[row_N, column_N] == 2)
    assert (after.logits_NV - before.logits_NV).abs().amax(-1)[torch.from_numpy(~own_N)].max() < 1e-4


def test_the_batchs_other_users_and_padding_change_nothing(example: Example) -> None:
    longest = int(np.argmax(example.dataset.profiles.lengths_U))
    with torch.no_grad():
        alone = example.forward(example.batch(0)).embeddings_3QH[0], example.forward(example.batch(3)).embeddings_3QH[0]
        for mates in ((0, 3), (0, 3, longest), (0, 3, 1, longest, 7, 8)):
            output = example.forward(example.batch(*mates))
            rows = example.batch(*mates).user_row_Q
            for row, expected in enumerate(alone):
                mine = output.embeddings_3QH[0][torch.from_numpy(rows == row)]
                assert sorted_distance(mine, expected) < TOLERANCE


def sorted_distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far each vector is from its nearest of the other set: pairs are drawn in an order of their own."""
    assert one.shape == other.shape
    return float(torch.cdist(one, other).min(dim=1).values.max())


@pytest.mark.parametrize("switches", [{}, {"head": 24}, {"readout": "mean"}])
def test_the_last_layer_at_the_tokens_that_are_read_is_the_whole_layer(
    monkeypatch: pytest.MonkeyPatch, switches: dict[str, object]
) -> None:
    """Profiles of different lengths, with three, one and no suffix; values and gradients of every weight."""
    example = make(**switches)
    sampled = example.dataset.sample(
        np.array([5, 0, 9, 3]), TrainingConfig(universal_pairs=1), np.random.default_rng(0)
    )
    kept = (sampled.row_Q != 2) & ((sampled.row_Q != 1) | sampled.is_universal_Q)
    changes = {name: getattr(sampled, name)[kept] for name in ("row_Q", "pair_Q", "instruction_Q", "is_universal_Q")}
    batch = example.dataset.collate(replace(sampled, **changes))
    results = []
    for is_short in (True, False):
        if not is_short:
            monkeypatch.setattr("model.network.network.is_supported", lambda decoder: False)
        computed: list[int] = []
        last = example.network.decoder.layers[-1].mlp
        hook = last.register_forward_hook(lambda _, given, output, computed=computed: computed.append(output.shape[1]))
        example.network.zero_grad()
        output = example.network(batch, example.dataset.event_ids, example.dataset.answer_ids)
        hook.remove()
        probe = torch.Generator().manual_seed(0)
        outputs = (output.embeddings_3QH, output.logits_NV)
        sum((part * torch.randn(part.shape, generator=probe)).sum() for part in outputs).backward()
        gradients = {name: weight.grad for name, weight in example.network.named_parameters()}
        results.append((computed[0], *(part.detach() for part in outputs), gradients))
    (short, *one, gradients), (whole, *other, expected) = results
    assert (short < whole) == ("readout" not in switches)
    for result, value in zip(one, other, strict=True):
        assert (result - value).abs().max() < TOLERANCE
    for name, gradient in gradients.items():
        if gradient is not None:
            assert (gradient - expected[name]).abs().max() < 1e-4 * (1 + expected[name].abs().max()), name


# What learns.


def parts(network: InstructUE) -> dict[str, Callable[[], torch.Tensor]]:
    """Everything that must have a gradient, as the gradient's norm for each row or module."""
    config: NetworkConfig = network.config
    result: dict[str, Callable[[], torch.Tensor]] = {}
    for number, name in enumerate(config.encoder_names):
        result[f"encoder {name}"] = lambda m=network.encoders[number]: norm(m)
    for number, source in enumerate(config.sources):
        result[f"adapter {source.name}"] = lambda m=network.source_adapters[number]: norm(m)
    for row in range(len(network.boundaries.weight)):
        result[f"boundary {row}"] = lambda r=row: network.boundaries.weight.grad[r].norm()
    result["<USER>"] = lambda: network.backbone.get_input_embeddings().weight.grad[USER].norm()
    result["tabular adapter"] = lambda: norm(network.tabular_adapter)
    result["categories"] = lambda: norm(network.categories)
    if config.pooled_tokens:
        result["user adapter"] = lambda: norm(network.user_adapter)
    if config.time_bands:
        result["gap bands"] = lambda: norm(network.gap_bands)
        result["age bands"] = lambda: norm(network.age_bands)
    return result


def norm(module: torch.nn.Module) -> torch.Tensor:
    """The least of its matrices: a bias of attention's keys has no gradient, since softmax undoes it."""
    return torch.stack([weight.grad.norm() for weight in module.parameters() if weight.dim() > 1]).min()


@pytest.mark.parametrize("loss", ["language", "contrastive"])
def test_each_loss_alone_reaches_every_part(example: Example, loss: str) -> None:
    example.network.zero_grad()
    losses = example.losses(example.batch(*range(2, 12)))
    losses.terms[loss].backward()
    still = [name for name, gradient in parts(example.network).items() if not gradient() > 1e-7]
    example.network.zero_grad()
    assert still == []
