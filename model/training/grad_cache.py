"""A step: a batch's losses and their gradients, in as many forwards and processes as memory asks for.

The contrastive loss reads all pairs of a batch at once, in whatever forward and process each was read. All parts are
first read without gradients; the loss of all embeddings gives the gradient at each of them, and each part is then
read again and handed its own (GradCache: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup). A process that reads its share in one forward reads it once.

Every process draws the same batch and reads the profiles that are its share; embeddings and gradients are then added
up over all of them. So one forward, several forwards and several processes give the same gradients.

Shapes: B profiles of a batch, Q question-answer pairs of it, H width of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast, parse_flag_from_env, reduce
from torch import Tensor, nn

from model.data.pairs import PairBatch
from model.network.network import InstructUE, PairOutputs, Texts
from model.training.dataset import SampledBatch, TrainingDataset
from model.training.losses import Losses, contrastive_loss, joint_loss, language_loss
from model.training.training_config import TrainingConfig


def processes() -> PartialState:
    """Return what this process knows of itself and the others that `torchrun` started; one if none did."""
    # Without a GPU, accelerate takes no notice of other processes unless it is told to use the CPU.
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that training changes, by name; shared ones once."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def same_weights(network: nn.Module) -> None:
    """Give every process the first one's weights: what each has made by itself may differ in its last digits."""
    if processes().num_processes > 1:
        for weight in network.parameters():
            broadcast(weight.data)


@torch.no_grad()
def frozen_texts(network: InstructUE, examples: TrainingDataset) -> tuple[Tensor, ...]:
    """Return `vectors_TE` of a split's event texts, of each source, where the encoders stand still.

    Each process encodes its share of them, and all hand theirs to the others.
    """
    state = processes()
    mine = slice(state.process_index, None, state.num_processes)
    vectors = network.eval().encode_texts(examples.event_ids, mine)
    if state.num_processes == 1:
        return vectors
    whole = []
    for ids, mine_TE in zip(examples.event_ids, vectors, strict=True):
        vectors_TE = mine_TE.new_zeros(len(ids), mine_TE.shape[1])
        vectors_TE[mine] = mine_TE
        torch.distributed.all_reduce(vectors_TE)  # in place: there may be millions
        whole.append(vectors_TE)
    return tuple(whole)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Profiles that are read in one forward, and where their pairs stand in the whole batch."""

    batch: PairBatch
    pairs: slice
    seed: int


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A network that reads batches of a split as the settings say."""

    network: InstructUE
    examples: TrainingDataset
    texts: Texts
    """The split's event texts: their tokens, or the vectors of encoders that stand still."""
    training: TrainingConfig
    seed: int

    @torch.no_grad()
    def losses(self, drawn: SampledBatch) -> Losses:
        """Return a batch's losses without gradients or dropout, all of it read by this process."""
        self.network.eval()
        users_QH, answers_QH = self._embeddings(drawn)
        language = torch.zeros((), device=self.network.device)
        for part in self._parts(drawn, 0, 0, len(drawn.users_B)):
            output = self._read(part)
            self._place(part, output, users_QH, answers_QH)
            language += self._language(output, drawn)
        return self._joint(language, self._contrastive(users_QH, answers_QH, drawn))

    def backward(self, drawn: SampledBatch, step: int) -> Losses:
        """Write the gradients of a batch's loss into the weights, the same in every process; return the losses."""
        self.network.train()
        state, weights = processes(), trainable(self.network).values()
        for weight in weights:  # not None: what a process's share has not touched is added up too
            weight.grad = torch.zeros_like(weight)
        bounds = [len(drawn.users_B) * number // state.num_processes for number in range(state.num_processes + 1)]
        parts = [*self._parts(drawn, step, *bounds[state.process_index : state.process_index + 2])]
        once = len(parts) < 2
        users_QH, answers_QH = self._embeddings(drawn)
        outputs = []
        for part in parts:
            with torch.set_grad_enabled(once):
                output = self._read(part)
            self._place(part, output, users_QH, answers_QH)
            outputs += [output] if once else []

        users_QH, answers_QH = _sum(state, users_QH).requires_grad_(), _sum(state, answers_QH).requires_grad_()
        contrastive = self._contrastive(users_QH, answers_QH, drawn)
        to_users_QH, to_answers_QH = torch.autograd.grad(self.training.weight_cl * contrastive, [users_QH, answers_QH])

        language = torch.zeros((), device=self.network.device)
        for part in parts:
            output = outputs.pop() if once else self._read(part)
            part_language = self._language(output, drawn)
            torch.autograd.backward(
                [self.training.weight_lm * part_language, output.users_QH, output.answers_QH],
                [None, to_users_QH[part.pairs].to(output.users_QH), to_answers_QH[part.pairs].to(output.answers_QH)],
            )
            language += part_language.detach()
        for weight in weights if state.num_processes > 1 else ():
            weight.grad = reduce(weight.grad, "sum")
        return self._joint(_sum(state, language), contrastive.detach())

    def _parts(self, drawn: SampledBatch, step: int, first: int, last: int) -> Iterator[_Part]:
        """The profiles from `first` to before `last`, in forwards; those for which no pair was drawn are left out."""
        share = math.ceil(len(drawn.users_B) / processes().num_processes)  # what fits a process in training
        rows = self.training.profiles_per_forward or share
        for begin in range(first, last, rows):
            end = min(begin + rows, last)
            pairs = slice(*np.searchsorted(drawn.row_Q, [begin, end]).tolist())
            if pairs.start < pairs.stop:
                # Dropout is a function of the step and the profiles, so that both readings of a part, a resumed
                # run and another number of processes meet the same.
                chance = np.random.SeedSequence([self.seed, 3, step, begin]).generate_state(1, np.uint64)
                yield _Part(batch=self.examples.lay(drawn, begin, end), pairs=pairs, seed=int(chance[0]))

    def _read(self, part: _Part) -> PairOutputs:
        device = self.network.device
        half = torch.autocast(device.type, torch.bfloat16, enabled=self.training.precision == "bf16")
        with torch.random.fork_rng([device] if device.type == "cuda" else []), half:
            torch.manual_seed(part.seed)
            output: PairOutputs = self.network(part.batch, self.texts, self.examples.answer_ids)
        return output

    def _embeddings(self, drawn: SampledBatch) -> tuple[Tensor, Tensor]:
        """Zeros for every pair's user and answer: what other processes read is added to them."""
        shape = len(drawn.pair_Q), self.network.config.embedding_width
        users_QH, answers_QH = torch.zeros(2, *shape, device=self.network.device)
        return users_QH, answers_QH

    @staticmethod
    def _place(part: _Part, output: PairOutputs, users_QH: Tensor, answers_QH: Tensor) -> None:
        users_QH[part.pairs] = output.users_QH.detach().float()
        answers_QH[part.pairs] = output.answers_QH.detach().float()

    def _contrastive(self, users_QH: Tensor, answers_QH: Tensor, drawn: SampledBatch) -> Tensor:
        return contrastive_loss(
            users_QH,
            answers_QH,
            torch.from_numpy(self.examples.pairs.answer_R[drawn.pair_Q]).to(users_QH.device),
            temperature=self.training.temperature,
            margin=self.training.margin,
            mask_same_answers=self.training.mask_same_answers,
            answer_negatives=self.training.answer_negatives,
        )

    def _language(self, output: PairOutputs, drawn: SampledBatch) -> Tensor:
        """A part's share of the batch's language loss."""
        answers = self.examples.pairs.answer_R[drawn.pair_Q]
        return language_loss(output.logits_NV, output.tokens_N, int(self.examples.answer_ids.lengths[answers].sum()))

    def _joint(self, language: Tensor, contrastive: Tensor) -> Losses:
        return joint_loss(language, contrastive, weight_lm=self.training.weight_lm, weight_cl=self.training.weight_cl)


def _sum(state: PartialState, tensor: Tensor) -> Tensor:
    """The sum over all processes."""
    added: Tensor = reduce(tensor, "sum") if state.num_processes > 1 else tensor
    return added
