"""Initialisation of a fresh network, so that a user's vector represents the user's words before the first step.

With random weights alone, 98 to 99.9 % of the pooled event vectors is common to all users, and training first has to
find the rest. The warm start sets the word vectors (`model.training.word_vectors`), attention to a
plain mean, feed-forward layers to nearly zero, and the adapters' LayerNorms to the variance of the events. A probe of
the made-up company's untrained universal vectors then has a mean AUC of .75. It has .65 with the word vectors and
adapters alone. A regression on hand-made features has .73. No step needs a label; all take a second or two.

The tabular token is one among some dozens. Where it is more informative than the others, its adapter starts as the
principal components of its columns, and attention gives it a multiple of another token's weight. Before training, on
twenty halves of the fit half of buying again, a probe of the universal vectors has .754 with 128 times the attention
and .752 with 32 times; a regression on the codes of the columns themselves has .754. With components that are 0.7 as
long as the common vector, or 1.4 times, in place of `COMPONENT_LENGTH`, centred vectors lose .004 and .008. Where
events are more informative, attention to the token costs quality: the made-up company's untrained vectors have .752,
.752 and .740 with 1, 16 and 128 times.

Shapes: B profiles by which adapters are initialised, V tokens of the event vocabulary, D principal components, E width
of an event vector, W width of the tabular columns, Z vectors, H width of the backbone.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import hstack
from torch import Tensor, nn

from model.data.arrays import Ints
from model.network.network import InstructUE
from model.training.dataset import TrainingDataset
from model.training.word_vectors import answer_indicators, question_word_vectors, token_counts, word_vectors

COMPONENT_LENGTH = 0.35
"""Root mean square length of a tabular token's principal components, as a multiple of the common vector's length.

The norms of the backbone divide a token by its length. That of a token with long components differs from user to user,
and no regression on the vectors finds the columns again."""
GELU_SHIFT = 8.0
"""What is added before a GELU to a component whose standard deviation is at most 1, and subtracted after it."""
SMALL_SCALE = 0.1
"""Factor of the weights that are made small: queries and second feed-forward weights."""
SMALL_WEIGHTS = (".query.weight", ".output.dense.weight", ".q_proj.weight", ".down_proj.weight")
"""Ends of their names, in BERT and Qwen2."""
ORTHOGONAL_WEIGHTS = (".value.weight", ".attention.output.dense.weight", ".v_proj.weight", ".o_proj.weight")
"""Ends of the names of the weights that become orthogonal: values and outputs of attention, in BERT and Qwen2."""


def warm_start(
    network: InstructUE,
    dataset: TrainingDataset,
    users_B: Ints,
    *,
    of_questions: bool = False,
    tabular_attention: float = 1.0,
    seed: int = 0,
) -> None:
    """Initialise the fresh event encoders, backbone and adapters of a network, in place.

    Parameters
    ----------
    network
        Its pretrained parts keep their weights.
    dataset
        The training split.
    users_B
        Some hundred profiles of the split, by which adapters are initialised.
    of_questions
        Whether word vectors predict the answers of the questions, rather than which words occur together.
    tabular_attention
        The attention that the tabular token gets in a fresh backbone, as a multiple of another token's; 1 or more.
    seed
        Decides all random weights.
    """
    config = network.config
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        if config.encoder.pretrained is None and len(network.encoders):
            _near_identity(network.encoders)
            _set_common_vector(network)
            _write_word_vectors(network, dataset, of_questions, seed)
        if config.backbone.pretrained is None:
            _near_identity(network.backbone)
        _initialise_adapters(network, dataset, users_B, tabular_attention)


def _set_common_vector(network: InstructUE) -> None:
    """Add the common vector to every token of the event encoders, before the layer norm."""
    for encoder in network.encoders:
        common_1E = encoder.get_submodule("bert.embeddings.token_type_embeddings").get_parameter("weight")
        common_1E.copy_(_common_vector(common_1E.shape[1]))


def _near_identity(transformers: nn.Module) -> None:
    """Make attention a plain mean that keeps lengths, and let feed-forward layers add little."""
    for name, weight in transformers.named_parameters():
        if name.endswith(ORTHOGONAL_WEIGHTS):  # first: BERT's attention output ends like its feed-forward layers
            nn.init.orthogonal_(weight)
        elif name.endswith(SMALL_WEIGHTS):
            weight.mul_(SMALL_SCALE)


def _write_word_vectors(network: InstructUE, dataset: TrainingDataset, of_questions: bool, seed: int) -> None:
    """Factor the tokens of all encoders together, so that their word vectors have the same directions."""
    config = network.config
    counts = [
        token_counts(part.text_E, part.offsets_U1, ids, config.encoder.vocabulary)
        for part, ids in zip(dataset.profiles.sources, dataset.event_ids, strict=True)
    ]
    if config.shared_encoder:
        counts = [sum(counts[1:], start=counts[0])]
    counts_UV, width = hstack(counts).tocsr(), config.encoder.width
    if of_questions:
        answers_UA, _ = answer_indicators(dataset.pairs)
        vectors = question_word_vectors(counts_UV, answers_UA, dataset.pairs.cut_off_U, width, seed)
    else:
        vectors = word_vectors(counts_UV, width, seed)
    for encoder, part_VE in zip(network.encoders, np.split(vectors, len(counts)), strict=True):
        known_V = torch.from_numpy(np.abs(part_VE).sum(axis=1) > 0)
        table_VE = encoder.get_submodule("bert.embeddings.word_embeddings").get_parameter("weight")
        table_VE[known_V] = torch.from_numpy(part_VE)[known_V].to(table_VE.device)


def _initialise_adapters(
    network: InstructUE, dataset: TrainingDataset, users_B: Ints, tabular_attention: float
) -> None:
    """Initialise the adapters by the vectors of these users, and the backbone's attention to the tabular token."""
    config = network.config
    if config.adapter != "mlp" or config.reading == "tokens":
        return
    network.eval()  # a pretrained encoder may have dropout
    profile = network.profile_tensors(dataset.profiles.batch(users_B), dataset.event_ids)
    network.train()
    events = [events_BNE[mask_BN > 0] for events_BNE, mask_BN in zip(profile.events_BNE, profile.masks_BN, strict=True)]
    adapters: list[nn.Module] = [*network.source_adapters]
    if config.has_pooled:
        adapters.append(network.user_adapter)
        events.append(torch.cat(events))
    for adapter, vectors_ZE in zip(adapters, events, strict=True):
        if len(vectors_ZE) > 1:
            _standardise(adapter, vectors_ZE)
    if tabular_attention > 1 and config.has_tabular and config.backbone.pretrained is None and len(users_B) > 1:
        features_BW = network.tabular_features(profile)
        _standardise(network.tabular_adapter, features_BW)
        _set_principal_components(network.tabular_adapter, features_BW)
        _attend_to(network, network.tabular_adapter(features_BW), tabular_attention)


def _standardise(adapter: nn.Module, vectors_ZE: Tensor) -> None:
    """Set an adapter's LayerNorm so that these vectors get mean 0 and standard deviation 1 in every dimension."""
    norm = adapter.get_submodule("0")
    assert isinstance(norm, nn.LayerNorm)
    normed_ZE = norm(vectors_ZE)
    deviation_E = normed_ZE.std(0).clamp(min=1e-3)
    norm.weight.copy_(1 / deviation_E)
    norm.bias.copy_(-normed_ZE.mean(0) / deviation_E)


def _set_principal_components(adapter: nn.Module, vectors_ZE: Tensor) -> None:
    """Set an adapter so that it returns the principal components of these vectors, rotated, plus the common vector.

    A hidden unit holds one component, shifted to where GELU(x) is x. The components are orthogonal to the common vector
    and short beside it (`COMPONENT_LENGTH`).
    """
    first, last = (adapter.get_submodule(name) for name in ("1", "3"))
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    normed_ZE, common_H = adapter.get_submodule("0")(vectors_ZE), _common_vector(last.out_features)
    count = min(last.out_features - 1, *normed_ZE.shape)
    _, size_D, components_DE = torch.linalg.svd(normed_ZE, full_matrices=False)
    deviation_D = (size_D[:count] / len(normed_ZE) ** 0.5).clamp(min=1e-3)
    largest, length = deviation_D[0], deviation_D.square().sum().sqrt()
    random_HD = torch.cat([common_H[:, None], torch.randn(last.out_features, count)], dim=1)
    rotation_HD = torch.linalg.qr(random_HD)[0][:, 1:].to(largest.device)
    for weight in (first.bias, last.weight):
        nn.init.zeros_(weight)
    first.weight[:count] = components_DE[:count] / largest
    first.bias[:count] = GELU_SHIFT
    last.weight[:, :count] = rotation_HD * (COMPONENT_LENGTH * common_H.norm() * largest / length)
    last.bias.copy_(common_H.to(largest.device) - last.weight.sum(1) * GELU_SHIFT)


def _attend_to(network: InstructUE, tokens_BH: Tensor, times: float) -> None:
    """Set attention so that tokens like these get a multiple of another token's weight.

    Queries get a constant, and keys the token's product with the common vector, in the pair of dimensions that rotary
    positions rotate slowest. The two dimensions of a pair are half a head apart.
    """
    common_H = _common_vector(tokens_BH.shape[1]).to(tokens_BH.device)
    head = network.config.backbone.width // network.config.backbone.heads
    slowest = slice(head // 2 - 1, None, head)
    for layer in network.decoder.get_submodule("layers").children():
        norm, attention = layer.get_submodule("input_layernorm"), layer.get_submodule("self_attn")
        query, key = (attention.get_submodule(name) for name in ("q_proj", "k_proj"))
        shared = (norm(tokens_BH) @ common_H).mean()
        strength = (np.log(times) * head**0.5 / shared).sqrt()
        key.get_parameter("weight")[slowest] = strength * common_H
        query.get_parameter("bias")[slowest] = strength


def _common_vector(width: int) -> Tensor:
    """Return the common vector, `[width]`: 1 and -1 by turns."""
    return 1 - 2 * (torch.arange(width) % 2).float()
