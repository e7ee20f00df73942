"""Tokenizers: byte-level BPE for event texts and for the language of instructions and answers, without torch.

Byte-level tokenizers encode any text and decode it unchanged: Chinese, emoji, unknown merchants.

Shapes: T texts, L tokens of the longest of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from model.data.arrays import Ints
from model.errors import InstructUEError

PAD = 0
"""The token that pads an array of tokens; a mask excludes it."""
USER_TOKEN = "<USER>"

EVENT_FILE = "event_tokenizer.json"
LANGUAGE_FILE = "language_tokenizer.json"
INSTRUCTION_FILE = "instruction_tokenizer.json"
WORD = re.compile(r"[^\s,;:/.!?()]+")
"""A word of an event text, for features and measures that count words."""
SENTENCE_TOKENS = 32
"""The most tokens of a text that the pretrained instruction encoder reads; an instruction has about ten."""


class TokenizerError(InstructUEError):
    """A tokenizer file that is missing, or is not one of this project."""


@dataclass(frozen=True, kw_only=True)
class TokenIds:
    """The concatenated tokens of many texts; text t is `ids[offsets[t]:offsets[t + 1]]`."""

    ids: Ints
    offsets: Ints

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> TokenIds:
        """Concatenate the rows."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter((token for row in rows for token in row), dtype=np.int64, count=int(offsets[-1]))
        return cls(ids=ids, offsets=offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, text: int) -> Ints:
        return self.ids[self.offsets[text] : self.offsets[text + 1]]

    @property
    def lengths(self) -> Ints:
        """Tokens in each text."""
        return np.diff(self.offsets)

    def padded(self, texts_T: Ints) -> tuple[Ints, Ints]:
        """Return `ids_TL` and `mask_TL` (1: a token, 0: padding) of these texts, padded to the longest text."""
        lengths_T = self.offsets[texts_T + 1] - self.offsets[texts_T]
        within_L = np.arange(max(1, int(lengths_T.max(initial=0))))
        mask_TL = within_L < lengths_T[:, None]
        ids_TL = np.full(mask_TL.shape, PAD, dtype=np.int64)
        ids_TL[mask_TL] = self.ids[(self.offsets[texts_T, None] + within_L)[mask_TL]]
        return ids_TL, mask_TL.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Tokenizers:
    """The tokenizers of a network: `event` for event texts, `language` for instructions and answers.

    Each file has the template of its texts. That of an event tokenizer is its encoder's, such as `<cls> text` or
    `[CLS] text [SEP]`. That of a language tokenizer ends with the end token of an answer. `<USER>` is a token of the
    language tokenizer. `instruction` is that of the pretrained instruction encoder, where the network has one.
    """

    event: Tokenizer
    language: Tokenizer
    instruction: Tokenizer | None = None

    @classmethod
    def load(cls, folder: Path) -> Tokenizers:
        """Read them from a checkpoint or a release.

        Raises
        ------
        TokenizerError
            When a file is missing, broken or not what it should be.
        """
        instruction = Path(folder) / INSTRUCTION_FILE
        return cls(
            event=_load(Path(folder) / EVENT_FILE),
            language=_load(Path(folder) / LANGUAGE_FILE),
            instruction=_load(instruction) if instruction.exists() else None,
        )

    def save(self, folder: Path) -> None:
        """Write them into the folder."""
        self.event.save(str(Path(folder) / EVENT_FILE), pretty=False)
        self.language.save(str(Path(folder) / LANGUAGE_FILE), pretty=False)
        if self.instruction is not None:
            self.instruction.save(str(Path(folder) / INSTRUCTION_FILE), pretty=False)

    @cached_property
    def user(self) -> int:
        """The token `<USER>`."""
        return token_id(self.language, USER_TOKEN)

    @cached_property
    def end(self) -> int:
        """The token that ends an answer."""
        return int(self.language.encode("").ids[-1])

    def event_ids(self, texts: Sequence[str], max_tokens: int) -> TokenIds:
        """Return each text's tokens, `max_tokens` in all at most, the encoder's own special ones included."""
        return _truncated_ids(self.event, texts, max_tokens)

    def sentence_ids(self, texts: Sequence[str]) -> TokenIds:
        """Return each text's tokens for the pretrained instruction encoder, `SENTENCE_TOKENS` in all at most."""
        assert self.instruction is not None
        return _truncated_ids(self.instruction, texts, SENTENCE_TOKENS)

    def language_ids(self, texts: Sequence[str], max_tokens: int) -> TokenIds:
        """Return each text's last `max_tokens` tokens of the language tokenizer, without special tokens."""
        return TokenIds.of([ids[-max_tokens:] for ids in self._language(texts)])

    def instruction_ids(self, instructions: Sequence[str | None]) -> TokenIds:
        """Return each instruction's tokens and a `<USER>`; None, the universal mode, is `<USER>` alone."""
        return TokenIds.of([[*ids, self.user] for ids in self._language([text or "" for text in instructions])])

    def answer_ids(self, answers: Sequence[str], max_tokens: int | None = None) -> TokenIds:
        """Return each answer's tokens and the end token, `max_tokens` in all at most."""
        limit = None if max_tokens is None else max_tokens - 1
        return TokenIds.of([[*ids[:limit], self.end] for ids in self._language(answers)])

    def answer_text(self, ids: Sequence[int]) -> str:
        """Return the text of an answer's tokens, up to its end token."""
        tokens = list(ids)
        tokens = tokens[: tokens.index(self.end)] if self.end in tokens else tokens
        return str(self.language.decode(tokens, skip_special_tokens=True))

    def _language(self, texts: Sequence[str]) -> list[list[int]]:
        return [text.ids for text in self.language.encode_batch_fast(list(texts), add_special_tokens=False)]


def train_event_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn `<cls> text` on event texts; the vocabulary is a ceiling, and holds at least all 256 bytes."""
    return _train(texts, vocabulary, ["<pad>", "<cls>"], "<cls> $A")


def train_language_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn `text <end>`, with `<USER>`, on instructions and answers; the vocabulary is a ceiling."""
    return _train(texts, vocabulary, ["<pad>", "<end>", USER_TOKEN], "$A <end>")


def _truncated_ids(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> TokenIds:
    tokenizer.enable_truncation(max_tokens)
    try:
        encoded = tokenizer.encode_batch_fast(list(texts))
    finally:
        tokenizer.no_truncation()  # it would be saved
    return TokenIds.of([text.ids for text in encoded])


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a token that the tokenizer has."""
    number = tokenizer.token_to_id(token)
    assert number is not None, token
    return number


def end_with(tokenizer: Tokenizer, token: str) -> None:
    """Set a language tokenizer's template to a text and this end token."""
    around = [(token, token_id(tokenizer, token))]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {token}", special_tokens=around)


def literal(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer, set to encode special tokens within a text as text, such as a merchant called "<end>"."""
    tokenizer.encode_special_tokens = True  # the file does not hold this setting
    return tokenizer


def _train(texts: Iterable[str], vocabulary: int, specials: list[str], template: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Sorted, so that the order of the texts does not change the vocabulary.
    tokenizer.train_from_iterator(sorted(texts), trainer=trainer)
    around = [(token, specials.index(token)) for token in specials if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=around)
    return literal(tokenizer)


def _load(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises a bare Exception, for a missing file too
        raise TokenizerError(f"cannot read the tokenizer {path} ({error}): train or export again") from error
    around, user = tokenizer.encode("").ids, tokenizer.token_to_id(USER_TOKEN)
    if path.name == LANGUAGE_FILE and (user is None or len(around) != 1):
        raise TokenizerError(
            f"{path} is no language tokenizer, which has {USER_TOKEN} and one token that ends a text: "
            "train or export again"
        )
    if path.name == EVENT_FILE and (user is not None or not around):
        raise TokenizerError(
            f"{path} is no event tokenizer, which begins with a token such as <cls> and has no "
            f"{USER_TOKEN}: train or export again"
        )
    return literal(tokenizer)
