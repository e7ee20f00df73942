"""Tokenizers: byte-level BPE for event texts and for the language of instructions and answers, without torch.

Byte-level means that any text has tokens and comes back unchanged: Chinese, emoji, a merchant never seen
before.

Shapes: T texts, L tokens of the longest of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from model.errors import InstructUEError

Ints = NDArray[np.int64]

PAD = 0
EVENT_SPECIALS = ("<pad>", "<cls>")
CLS = 1
LANGUAGE_SPECIALS = ("<pad>", "<end>", "<USER>")
END = 1
USER = 2

EVENT_FILE = "event_tokenizer.json"
LANGUAGE_FILE = "language_tokenizer.json"


class TokenizerError(InstructUEError):
    """A tokenizer file that is missing or not ours."""


@dataclass(frozen=True, kw_only=True)
class TokenIds:
    """The tokens of many texts, end to end: text t is `ids[offsets[t]:offsets[t + 1]]`."""

    ids: Ints
    offsets: Ints

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> TokenIds:
        """Lay the rows end to end."""
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
        """Return `ids_TL` and `mask_TL` (1: a token, 0: padding) of these texts, padded to the longest of
        them.
        """
        lengths_T = self.offsets[texts_T + 1] - self.offsets[texts_T]
        within_L = np.arange(max(1, int(lengths_T.max(initial=0))))
        mask_TL = within_L < lengths_T[:, None]
        ids_TL = np.full(mask_TL.shape, PAD, dtype=np.int64)
        ids_TL[mask_TL] = self.ids[(self.offsets[texts_T, None] + within_L)[mask_TL]]
        return ids_TL, mask_TL.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Tokenizers:
    """The two tokenizers of a network: `event` for event texts, `language` for instructions and answers."""

    event: Tokenizer
    language: Tokenizer

    @classmethod
    def train(
        cls,
        event_texts: Iterable[str],
        language_texts: Iterable[str],
        *,
        event_vocabulary: int,
        language_vocabulary: int,
    ) -> Tokenizers:
        """Learn both on training texts; the vocabularies are ceilings, and hold at least all 256 bytes."""
        return cls(
            event=_train(event_texts, event_vocabulary, EVENT_SPECIALS),
            language=_train(language_texts, language_vocabulary, LANGUAGE_SPECIALS),
        )

    @classmethod
    def load(cls, folder: Path) -> Tokenizers:
        """Read both from a checkpoint or a release.

        Raises
        ------
        TokenizerError
            When a file is missing, broken or has other special tokens.
        """
        return cls(
            event=_load(Path(folder) / EVENT_FILE, EVENT_SPECIALS),
            language=_load(Path(folder) / LANGUAGE_FILE, LANGUAGE_SPECIALS),
        )

    def save(self, folder: Path) -> None:
        """Write both into the folder."""
        self.event.save(str(Path(folder) / EVENT_FILE), pretty=False)
        self.language.save(str(Path(folder) / LANGUAGE_FILE), pretty=False)

    def event_ids(self, texts: Sequence[str], max_tokens: int) -> TokenIds:
        """Return each text's tokens after a `<cls>`, `max_tokens` in all at most."""
        encoded = self.event.encode_batch_fast(list(texts), add_special_tokens=False)
        return TokenIds.of([[CLS, *text.ids[: max_tokens - 1]] for text in encoded])

    def instruction_ids(self, instructions: Sequence[str | None]) -> TokenIds:
        """Return each instruction's tokens and a `<USER>`; None, the universal mode, is `<USER>` alone."""
        encoded = self.language.encode_batch_fast(
            [text or "" for text in instructions], add_special_tokens=False
        )
        return TokenIds.of([[*text.ids, USER] for text in encoded])

    def answer_ids(self, answers: Sequence[str], max_tokens: int | None = None) -> TokenIds:
        """Return each answer's tokens and an `<end>`, `max_tokens` in all at most."""
        encoded = self.language.encode_batch_fast(list(answers), add_special_tokens=False)
        limit = None if max_tokens is None else max_tokens - 1
        return TokenIds.of([[*text.ids[:limit], END] for text in encoded])

    def answer_text(self, ids: Sequence[int]) -> str:
        """Return the text of an answer's tokens, up to its `<end>`."""
        tokens = list(ids)
        tokens = tokens[: tokens.index(END)] if END in tokens else tokens
        return str(self.language.decode(tokens, skip_special_tokens=True))


def _train(texts: Iterable[str], vocabulary: int, specials: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Sorted, so that the order in which texts were met cannot change the vocabulary.
    tokenizer.train_from_iterator(sorted(texts), trainer=trainer)
    return _literal(tokenizer)


def _load(path: Path, specials: Sequence[str]) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises a bare Exception, for a missing file too
        raise TokenizerError(f"cannot read the tokenizer {path} ({error}): train or export again") from error
    found = tuple(tokenizer.id_to_token(token) for token in range(len(specials)))
    if found != tuple(specials):
        raise TokenizerError(
            f"{path} begins with the tokens {found}, not {tuple(specials)}: train or export again"
        )
    return _literal(tokenizer)


def _literal(tokenizer: Tokenizer) -> Tokenizer:
    # A merchant called "<end>" is text, not a command; the setting is not kept in the file.
    tokenizer.encode_special_tokens = True
    return tokenizer
