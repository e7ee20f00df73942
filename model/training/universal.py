"""Universal embeddings of a split's profiles, in torch, for what is measured at the end of a training.

Shapes: U profiles of the split, or a sample of them, H width of an embedding.
"""

from __future__ import annotations

import numpy as np
import torch

from model.data.arrays import Ints
from model.data.batching import batches_of_size
from model.network.network import InstructUE
from model.network.tensors import Texts
from model.training.dataset import TrainingDataset

PROFILES = 2_048
"""Profiles of a sample: the error of their mean embedding is 2 % of their spread."""
PROFILES_PER_FORWARD = 128


def sample_profiles(dataset: TrainingDataset, seed: int, most: int = PROFILES) -> Ints:
    """Return the numbers of at most so many profiles."""
    return np.random.default_rng([seed, 4]).permutation(len(dataset.profiles))[:most]


@torch.no_grad()
def universal_embeddings(
    network: InstructUE, dataset: TrainingDataset, texts: Texts, users_U: Ints, user_token: int
) -> torch.Tensor:
    """Return `universal_UH` of these profiles, L2-normalised, neither centred nor focused."""
    user_11H = network.token_vectors(torch.tensor(user_token, device=network.device))[None, None]
    mask_11 = torch.ones(1, 1, dtype=torch.int64, device=network.device)
    universal_UH = torch.empty(len(users_U), network.config.embedding_width, device=network.device)
    for batch in batches_of_size(dataset.profiles.lengths_U[users_U], PROFILES_PER_FORWARD):
        profile = network.profile_tensors(dataset.profiles.batch(users_U[batch]), texts)
        rows = torch.from_numpy(np.asarray(batch)).to(network.device)
        universal_UH[rows] = network.read_users(profile, user_11H, mask_11)[:, 0].float()
    return universal_UH
