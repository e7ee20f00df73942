"""Where training from scratch starts: at a network that hands on what a user's words say.

With weights drawn at random alone, 98 to 99.9 % of a user's pooled event vectors is the same for every user, and
training first has to find the rest. Instead, words begin as vectors that know which words the same users have,
attention as a plain mean, feed-forward layers as next to nothing, and adapters see how events differ. A probe of the
made-up company's untrained universal vectors then has a mean AUC of .75, against .65 with word vectors and adapters
alone and .73 of a regression on every word. No step needs a label or a question; all take a second or two.

The tabular token is one among some dozens. Where it is to tell more than its share, its adapter begins as the principal
components of its columns, and attention weighs it as many tokens. A probe of untrained universal vectors on half of the
fit users of three real labels (credit default, coupon, buying again) has an AUC of .779, .803 and .745 with 32 times
the attention of another token, and .774, .787 and .735 without. Where events tell more, it costs: after 150 steps the
made-up company's vectors have .742 with 16 times, .756 without.

Shapes: U profiles, B of them that adapters are set by, T distinct texts, V tokens of the event vocabulary, D factors,
E width of an event vector, W of the tabular columns, Z vectors, H width of the backbone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn

from model.data.profiles import Ints
from model.data.text import TokenIds
from model.network.network import InstructUE
from model.training.dataset import TrainingDataset

FEWEST, MOST = 10, 0.9
"""Tokens that fewer profiles, or a larger share of them, have say nothing about what goes together."""
FACTORS = 16
"""Directions of the word vectors. Further ones tell apart the habits of single users: with 64 the same probe falls
from .752 to .737."""
SPREAD = 0.5
"""Root mean square of the word vectors over the tokens of the events, against 0.1 of the positions' and 1 of what
every token has in common: the layer norm after their sum then leaves rare and common words their weights."""
FAINT = 0.1
"""What queries and second feed-forward weights keep of their size."""
QUIET = (".query.weight", ".output.dense.weight", ".q_proj.weight", ".down_proj.weight")
"""Ends of BERT's and Qwen2's names of the weights that become faint."""
ORTHOGONAL = (".value.weight", ".attention.output.dense.weight", ".v_proj.weight", ".o_proj.weight")
"""Ends of the names of those that attention's values pass through."""


def warm_start(
    network: InstructUE, dataset: TrainingDataset, users_B: Ints, *, tabular_attention: float = 1.0, seed: int = 0
) -> None:
    """Write word vectors into fresh event encoders, and let all else that is fresh hand them on.

    `users_B` are profiles of the examples that adapters are set by, some hundreds; `tabular_attention` is how many
    times what another token gets the tabular one does in a fresh backbone, from 1 up.
    """
    config = network.config
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        if config.encoder.pretrained is None and len(network.encoders):
            _hand_on(network.encoders)
            _share(network)
            _write_word_vectors(network, dataset, seed)
        if config.backbone.pretrained is None:
            _hand_on(network.backbone)
        _adapt(network, dataset, users_B, tabular_attention)


def word_vectors(counts_UV: csr_matrix, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Return a vector `[V, width]` of each token: users' tf-idf counts, factored (latent semantic analysis).

    The mean of a user's token vectors is then the user's place among the directions in which users differ
    most (Deerwester et al. 1990). Tokens of which nothing can be said get zeros.
    """
    users = counts_UV.shape[0]
    having_V = np.asarray((counts_UV > 0).sum(axis=0)).ravel()
    telling_V = (having_V >= FEWEST) & (having_V <= MOST * users)
    weight_V = np.where(telling_V, np.log(users / (1 + having_V)).clip(min=0), 0)
    seen_UV = counts_UV.astype(np.float64)
    seen_UV.data = np.log1p(seen_UV.data)
    factors = min(FACTORS, width, *seen_UV.shape)
    _, size_D, tokens_DV = randomized_svd(seen_UV.multiply(weight_V).tocsr(), factors, random_state=seed)
    # Turned at random, so that every dimension of the network has its part of them.
    turn_DE = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0][:factors]
    vectors_VE = (((tokens_DV.T * size_D) * weight_V[:, None]) @ turn_DE).astype(np.float32)
    times_V = np.asarray(counts_UV.sum(axis=0)).ravel()
    spread = np.sqrt((times_V[:, None] * vectors_VE**2).sum() / max(1, times_V.sum() * width))
    return vectors_VE * np.float32(SPREAD / spread) if spread > 0 else vectors_VE


def _share(network: InstructUE) -> None:
    """What every token has in common, before the layer norm."""
    for encoder in network.encoders:
        common_1E = encoder.get_submodule("bert.embeddings.token_type_embeddings").get_parameter("weight")
        common_1E.copy_(_common(common_1E.shape[1]))


def _hand_on(transformers: nn.Module) -> None:
    """Attention that reads all it sees alike and changes no length, feed-forward layers that add little."""
    for name, weight in transformers.named_parameters():
        if name.endswith(ORTHOGONAL):  # first, for BERT's attention ends like its feed-forward layers
            nn.init.orthogonal_(weight)
        elif name.endswith(QUIET):
            weight.mul_(FAINT)


def _write_word_vectors(network: InstructUE, dataset: TrainingDataset, seed: int) -> None:
    """One factorisation over all encoders' tokens, so that their vectors share their directions."""
    config = network.config
    counts = [
        _counts(part.text_E, part.offsets_U1, ids, config.encoder.vocabulary)
        for part, ids in zip(dataset.profiles.sources, dataset.event_ids, strict=True)
    ]
    if config.shared_encoder:
        counts = [sum(counts[1:], start=counts[0])]
    vectors = word_vectors(hstack(counts).tocsr(), config.encoder.width, seed)
    for encoder, part_VE in zip(network.encoders, np.split(vectors, len(counts)), strict=True):
        known_V = torch.from_numpy(np.abs(part_VE).sum(axis=1) > 0)
        table_VE = encoder.get_submodule("bert.embeddings.word_embeddings").get_parameter("weight")
        table_VE[known_V] = torch.from_numpy(part_VE)[known_V].to(table_VE.device)


def _counts(text_E: Ints, offsets_U1: Ints, ids: TokenIds, vocabulary: int) -> csr_matrix:
    """How often each user's events have each token, [U, V]."""
    texts, users = len(ids), len(offsets_U1) - 1
    of_text = np.repeat(np.arange(texts), ids.lengths)
    tokens_TV = csr_matrix((np.ones(len(of_text)), (of_text, ids.ids)), (texts, vocabulary))
    of_user = np.repeat(np.arange(users), np.diff(offsets_U1))
    texts_UT = csr_matrix((np.ones(len(of_user)), (of_user, text_E)), (users, texts))
    return (texts_UT @ tokens_TV).tocsr()


def _adapt(network: InstructUE, dataset: TrainingDataset, users_B: Ints, tabular_attention: float) -> None:
    """Let the adapters hand on in what these users differ, and every token look at the tabular one."""
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
        _hand_on_components(network.tabular_adapter, features_BW)
        _look_at(network, network.tabular_adapter(features_BW), tabular_attention)


def _standardise(adapter: nn.Module, vectors_ZE: Tensor) -> None:
    """Let an adapter's LayerNorm give these vectors mean 0 and deviation 1 in every dimension."""
    norm = adapter.get_submodule("0")
    assert isinstance(norm, nn.LayerNorm)
    normed_ZE = norm(vectors_ZE)
    deviation_E = normed_ZE.std(0).clamp(min=1e-3)
    norm.weight.copy_(1 / deviation_E)
    norm.bias.copy_(-normed_ZE.mean(0) / deviation_E)


def _hand_on_components(adapter: nn.Module, vectors_ZE: Tensor) -> None:
    """Let an adapter give the principal components of these vectors, turned at random, beside what all have in common.

    Every component goes through the GELU as itself and as its opposite: GELU(x) - GELU(-x) is x.
    """
    first, last = (adapter.get_submodule(name) for name in ("1", "3"))
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    normed_ZE = adapter.get_submodule("0")(vectors_ZE)
    count = min(last.out_features // 2, *normed_ZE.shape)
    _, size_D, components_DE = torch.linalg.svd(normed_ZE, full_matrices=False)
    deviation = size_D[:count].square().mean().sqrt() / len(normed_ZE) ** 0.5
    scaled_DE = components_DE[:count] / deviation.clamp(min=1e-3)
    turn_HD = torch.linalg.qr(torch.randn(last.out_features, count))[0].to(scaled_DE.device)
    for linear in (first, last):
        nn.init.zeros_(linear.bias)
    nn.init.zeros_(last.weight)
    first.weight[: 2 * count] = torch.cat([scaled_DE, -scaled_DE])
    last.weight[:, : 2 * count] = torch.cat([turn_HD, -turn_HD], dim=1)
    last.bias.copy_(_common(last.out_features))


def _look_at(network: InstructUE, tokens_BH: Tensor, times: float) -> None:
    """Let attention weigh such tokens so many times as much as others, by what they have in common.

    Queries get a constant and keys what their token has in common, in the pair of dimensions that rotary positions
    turn slowest: a pair's two halves lie half a head apart.
    """
    common_H = _common(tokens_BH.shape[1]).to(tokens_BH.device)
    head = network.config.backbone.width // network.config.backbone.heads
    slowest = slice(head // 2 - 1, None, head)
    for layer in network.decoder.get_submodule("layers").children():
        norm, attention = layer.get_submodule("input_layernorm"), layer.get_submodule("self_attn")
        query, key = (attention.get_submodule(name) for name in ("q_proj", "k_proj"))
        shared = (norm(tokens_BH) @ common_H).mean()
        strength = (np.log(times) * head**0.5 / shared).sqrt()
        key.get_parameter("weight")[slowest] = strength * common_H
        query.get_parameter("bias")[slowest] = strength


def _common(width: int) -> Tensor:
    """What tokens have in common where anything must be."""
    return 1 - 2 * (torch.arange(width) % 2).float()
