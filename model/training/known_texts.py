"""The known texts of a network with a pretrained instruction encoder, fitted in closed form after training.

Shapes: U sampled profiles, N texts of a source, Q distinct instructions, D width of a sentence embedding, H width of an
embedding.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import csr_matrix

from model.data.arrays import Bools, Floats, Ints
from model.data.batching import batches_of_size, original_order
from model.data.known_texts import KnownTexts, unit
from model.data.profiles import SourceEvents
from model.data.text import TokenIds, Tokenizers
from model.network.network import InstructUE
from model.network.tensors import Texts
from model.training.dataset import TrainingDataset
from model.training.universal import sample_profiles, universal_embeddings

KNOWN_TEXTS_FILE = "known_texts.safetensors"
"""A checkpoint's file of the known texts."""
EVENT_PROFILES = 8_192
"""Training profiles that give the directions of event texts. With 2,048 of the made-up company's 7,819, zero-label AUC
on unnamed subjects is .014 lower."""
MIN_USERS = 5
"""Event texts of fewer sampled profiles are left out: their directions are those of single users."""
MOST_TEXTS = 20_000
"""The most event texts, those of the most profiles: each is encoded by the pretrained encoder and kept in a release."""
SENTENCES_PER_BATCH = 256


def fit_known_texts(
    network: InstructUE,
    dataset: TrainingDataset,
    event_texts: Texts,
    tokenizers: Tokenizers,
    questions: Mapping[str, Floats],
    seed: int,
) -> KnownTexts:
    """Return the questions and the event texts of a sample of the training profiles, with their directions.

    `questions` are the text embeddings of the distinct instructions, float32 [H] (`fit_focus`).
    """
    users_U = sample_profiles(dataset, seed, EVENT_PROFILES)
    universal_UH = universal_embeddings(network, dataset, event_texts, users_U, tokenizers.user).cpu().numpy()
    centred_UH = _centred(universal_UH, dataset.pairs.cut_off_U[users_U])
    texts: list[str] = []
    counts, directions = [], []
    for source in dataset.profiles.sources:
        count_N, direction_NH = event_directions(presence(source, users_U), centred_UH)
        texts += source.texts
        counts.append(count_N)
        directions.append(direction_NH)
    count_N = np.concatenate([np.zeros(0, np.int64), *counts])
    direction_NH = np.concatenate([np.zeros((0, universal_UH.shape[1]), np.float32), *directions])
    kept = np.flatnonzero(count_N >= MIN_USERS)
    kept = np.sort(kept[np.argsort(-count_N[kept], kind="stable")[:MOST_TEXTS]])
    frequent, instructions = [texts[text] for text in kept], [*questions]
    sentences_QD = sentence_embeddings(network, tokenizers, instructions)
    sentences_ND = sentence_embeddings(network, tokenizers, frequent)
    keys = [unit(part - part.mean(axis=0)) for part in (sentences_QD, sentences_ND) if len(part)]
    values = [np.stack([*questions.values()]), unit(direction_NH[kept])]
    return KnownTexts(
        questions=len(instructions),
        keys_ND=np.concatenate(keys),
        values_NH=np.concatenate(values),
        mean_D=sentences_QD.mean(axis=0),
    )


def event_directions(present_UN: csr_matrix, centred_UH: Floats) -> tuple[Ints, Floats]:
    """Return how many users have each text, [N], and the covariance of having it and the centred embeddings, [N, H]."""
    users = max(1, present_UN.shape[0])
    return np.asarray(present_UN.sum(axis=0)).ravel().astype(np.int64), np.asarray(present_UN.T @ centred_UH) / users


def presence(source: SourceEvents, users_U: Ints) -> csr_matrix:
    """Return whether each of these users has each distinct text of a source, float [U, N]."""
    shape = (len(source.offsets_U1) - 1, len(source.texts))
    counts = csr_matrix((np.ones(len(source.text_E), np.float32), source.text_E, source.offsets_U1), shape=shape)
    chosen = counts[users_U]
    chosen.sum_duplicates()
    chosen.data[:] = 1
    return chosen


@torch.no_grad()
def sentence_embeddings(network: InstructUE, tokenizers: Tokenizers, texts: list[str]) -> Floats:
    """Return the unit sentence embeddings of texts by the pretrained instruction encoder, float32 [T, D]."""
    encoder = network.instruction_encoder
    assert encoder is not None
    ids: TokenIds = tokenizers.sentence_ids(texts)
    if not texts:
        return np.zeros((0, encoder.bert.config.hidden_size), np.float32)
    batches = batches_of_size(ids.lengths, SENTENCES_PER_BATCH)
    parts = []
    for batch in batches:
        ids_TL, mask_TL = (torch.from_numpy(part).to(network.device) for part in ids.padded(batch))
        parts.append(encoder(ids_TL, mask_TL).float().cpu().numpy())
    return unit(np.concatenate(parts)[original_order(batches)])


def _centred(universal_UH: Floats, cut_off_U: Ints) -> Floats:
    """Return the embeddings minus the mean of their cut-off, so that a season's texts do not point to its cut-off."""
    centred_UH = universal_UH.copy()
    for cut_off in np.unique(cut_off_U):
        own: Bools = cut_off_U == cut_off
        centred_UH[own] -= centred_UH[own].mean(axis=0)
    return centred_UH
