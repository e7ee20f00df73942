"""The losses of a batch and their gradients, in as many forward passes and processes as memory requires.

The contrastive losses compare all pairs of a batch, whichever forward pass and process encoded them. First every
sub-batch is encoded without gradients. The loss of all embeddings gives the gradient at each of them. Then every
sub-batch is encoded again, and the gradients at its embeddings are propagated to the weights (GradCache: Gao et al.
2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup). A process with one sub-batch encodes it
once.

Every process samples the same batch and encodes its share of the profiles. Embeddings and gradients are summed over
all processes. So one forward pass, several forward passes and several processes give the same gradients.

Shapes: B profiles of a batch, Q question-answer pairs of it, H width of an embedding, T distinct texts, E width of an
event vector; 3 embeddings of a pair (`PairOutputs`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from model.data.pair_batch import PairBatch
from model.data.pairs import SampledBatch
from model.data.text import TokenIds
from model.network.network import InstructUE
from model.network.tensors import PairOutputs, Texts
from model.training.dataset import TrainingDataset
from model.training.losses import Losses, contrastive_loss, joint_loss, language_loss, within_question_loss
from model.training.processes import processes, sum_over_processes
from model.training.training_config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class GradCache:
    """A network, and the split and settings by which its losses are computed.

    Attributes
    ----------
    texts
        The split's event texts: their tokens, or their vectors where the encoders are frozen.
    seed
        Decides dropout, together with the step and the profiles.
    """

    network: InstructUE
    dataset: TrainingDataset
    texts: Texts
    training: TrainingConfig
    seed: int

    @torch.no_grad()
    def losses(self, batch: SampledBatch) -> Losses:
        """Return a batch's losses without gradients or dropout; this process encodes the whole batch."""
        self.network.eval()
        embeddings_3QH = self._zeros(batch)
        language = torch.zeros((), device=self.network.device)
        for part in self._sub_batches(batch, 0, 0, len(batch.users_B)):
            output = self._forward(part)
            _store(part, output, embeddings_3QH)
            language += self._language(output, batch)
        return self._joint(language, self._embedding_losses(embeddings_3QH, batch))

    def backward(self, batch: SampledBatch, step: int) -> Losses:
        """Compute the gradients of a batch's loss in all weights, the same in every process; return the losses."""
        self.network.train()
        weights = trainable(self.network).values()
        for weight in weights:  # not None, so that weights without a gradient in this process can be summed too
            weight.grad = torch.zeros_like(weight)
        parts = [*self._own_sub_batches(batch, step)]
        keep_graph = len(parts) < 2
        embeddings_3QH, outputs = self._encode(batch, parts, keep_graph)
        embeddings_3QH.requires_grad_()
        losses = self._embedding_losses(embeddings_3QH, batch)
        gradients_3QH = torch.zeros_like(embeddings_3QH)
        if losses:
            total = joint_loss(losses, self.training.loss_weights).total
            [gradients_3QH] = torch.autograd.grad(total, [embeddings_3QH])
        language = torch.zeros((), device=self.network.device)
        for part in parts:
            output = outputs.pop() if keep_graph else self._forward(part)
            part_language = self._language(output, batch)
            torch.autograd.backward(
                [self.training.weight_lm * part_language, output.embeddings_3QH],
                [None, gradients_3QH[:, part.pairs].to(output.embeddings_3QH)],
            )
            language += part_language.detach()
        for weight in weights:
            weight.grad = sum_over_processes(weight.grad)  # type: ignore[arg-type]
        return self._joint(sum_over_processes(language), {name: loss.detach() for name, loss in losses.items()})

    def _encode(
        self, batch: SampledBatch, parts: list[_SubBatch], keep_graph: bool
    ) -> tuple[Tensor, list[PairOutputs]]:
        """Return the embeddings of all pairs, over all processes, and the outputs that keep their graph."""
        embeddings_3QH = self._zeros(batch)
        outputs = []
        for part in parts:
            with torch.set_grad_enabled(keep_graph):
                output = self._forward(part)
            _store(part, output, embeddings_3QH)
            outputs += [output] if keep_graph else []
        return sum_over_processes(embeddings_3QH), outputs

    def _own_sub_batches(self, batch: SampledBatch, step: int) -> Iterator[_SubBatch]:
        """Yield the sub-batches of this process's share of the profiles."""
        process, profiles = processes(), len(batch.users_B)
        first, last = (
            profiles * number // process.num_processes for number in (process.process_index, process.process_index + 1)
        )
        return self._sub_batches(batch, step, first, last)

    def _sub_batches(self, batch: SampledBatch, step: int, first: int, last: int) -> Iterator[_SubBatch]:
        """Yield the profiles from `first` to before `last` in sub-batches, without those that have no pair."""
        share = math.ceil(len(batch.users_B) / processes().num_processes)  # as many as a process encodes in training
        rows = self.training.profiles_per_forward or share
        for begin in range(first, last, rows):
            end = min(begin + rows, last)
            pairs = slice(*np.searchsorted(batch.row_Q, [begin, end]).tolist())
            if pairs.start < pairs.stop:
                # Dropout is a function of the step and the profiles, so that it is the same in both forward passes,
                # in a resumed training and with another number of processes.
                seed = np.random.SeedSequence([self.seed, 3, step, begin]).generate_state(1, np.uint64)
                yield _SubBatch(batch=self.dataset.collate(batch, begin, end), pairs=pairs, seed=int(seed[0]))

    def _forward(self, part: _SubBatch) -> PairOutputs:
        device = self.network.device
        half = torch.autocast(device.type, torch.bfloat16, enabled=self.training.precision == "bf16")
        with torch.random.fork_rng([device] if device.type == "cuda" else []), half:
            torch.manual_seed(part.seed)
            output: PairOutputs = self.network(part.batch, self.texts, self.dataset.answer_ids, self._instruction_texts)
        return output

    @property
    def _instruction_texts(self) -> TokenIds | None:
        return self.dataset.instruction_text_ids if "instruction_text" in self.training.loss_weights else None

    def _zeros(self, batch: SampledBatch) -> Tensor:
        """Return zeros in the place of all embeddings; those of other processes are added to them."""
        return torch.zeros(3, len(batch.pair_Q), self.network.config.embedding_width, device=self.network.device)

    def _embedding_losses(self, embeddings_3QH: Tensor, batch: SampledBatch) -> dict[str, Tensor]:
        """Return the losses that compare embeddings, by name: those with a weight."""
        pairs, training = self.dataset.pairs, self.training
        users_QH, answers_QH, instructions_QH = embeddings_3QH
        question_Q, answer_Q = pairs.question_R[batch.pair_Q], pairs.answer_R[batch.pair_Q]
        cut_off_Q = pairs.cut_off_U[batch.users_B[batch.row_Q]]
        within_question = partial(
            within_question_loss,
            users_QH,
            # Universal vectors and those under the question's instruction are not compared with each other.
            question_Q=2 * question_Q + batch.is_universal_Q,
            answer_Q=answer_Q,
            cut_off_Q=cut_off_Q if training.center_by_cut_off else np.zeros_like(cut_off_Q),
        )
        compared_Q = (question_Q >= 0) & ~pairs.is_none_R[batch.pair_Q]
        losses = {
            "contrastive": lambda: contrastive_loss(
                users_QH,
                answers_QH,
                torch.from_numpy(answer_Q).to(users_QH.device),
                temperature=training.temperature,
                margin=training.margin,
                mask_same_answers=training.mask_same_answers,
                answer_negatives=training.answer_negatives,
            ),
            "within_question": lambda: within_question(answers_QH, compared_Q=compared_Q),
            "instruction_text": lambda: within_question(
                instructions_QH, compared_Q=compared_Q & pairs.has_one_answer_R[batch.pair_Q]
            ),
        }
        return {name: loss() for name, loss in losses.items() if name in training.loss_weights}

    def _language(self, output: PairOutputs, batch: SampledBatch) -> Tensor:
        """Return a sub-batch's share of the batch's language loss."""
        answers = self.dataset.pairs.answer_R[batch.pair_Q[~batch.is_universal_Q]]
        return language_loss(output.logits_NV, output.tokens_N, int(self.dataset.answer_ids.lengths[answers].sum()))

    def _joint(self, language: Tensor, embedding_losses: dict[str, Tensor]) -> Losses:
        weights = self.training.loss_weights
        language_term = {"language": language} if "language" in weights else {}
        return joint_loss(language_term | embedding_losses, weights)


@dataclass(frozen=True, kw_only=True)
class _SubBatch:
    """Profiles that are encoded in one forward pass.

    `pairs` are the positions of their pairs in the whole batch; `seed` decides their dropout.
    """

    batch: PairBatch
    pairs: slice
    seed: int


def _store(part: _SubBatch, output: PairOutputs, embeddings_3QH: Tensor) -> None:
    """Copy a sub-batch's embeddings to their positions in the whole batch."""
    embeddings_3QH[:, part.pairs] = output.embeddings_3QH.detach().float()


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that training changes, by name; a shared weight once."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


@torch.no_grad()
def frozen_text_vectors(network: InstructUE, dataset: TrainingDataset) -> tuple[Tensor, ...]:
    """Return `vectors_TE` of a split's event texts for each source, by frozen encoders.

    Each process encodes its share of the texts, and all exchange their vectors.
    """
    process = processes()
    share = slice(process.process_index, None, process.num_processes)
    shares = network.eval().encode_texts(dataset.event_ids, share)
    if process.num_processes == 1:
        return shares
    vectors = []
    for ids, share_TE in zip(dataset.event_ids, shares, strict=True):
        vectors_TE = share_TE.new_zeros(len(ids), share_TE.shape[1])
        vectors_TE[share] = share_TE
        torch.distributed.all_reduce(vectors_TE)  # in place, since there may be millions
        vectors.append(vectors_TE)
    return tuple(vectors)
