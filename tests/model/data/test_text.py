"""Tokenizers on the texts that are hard: Chinese, unseen words, texts that look like commands."""

from pathlib import Path

import numpy as np
import pytest

from model.data.text import PAD, TokenizerError, Tokenizers, train_event_tokenizer, train_language_tokenizer

EVENTS = ["paid ~8 for coffee at corner", "paid ~16 for 外卖 at 学校", "films mall"] * 3
LANGUAGE = ["What does this user like?", "The user likes coffee.", "这个用户喜欢什么?"]


CLS, END, USER = 1, 1, 2


def example(events: list[str], language: list[str]) -> Tokenizers:
    return Tokenizers(event=train_event_tokenizer(events, 320), language=train_language_tokenizer(language, 320))


@pytest.fixture(scope="module")
def tokenizers() -> Tokenizers:
    return example(EVENTS, LANGUAGE)


@pytest.mark.parametrize(
    "text",
    [
        "The user likes coffee.",
        "这个用户喜欢火锅和电影",
        "Zürich Ærøskøbing 🚲 never seen",
        "  two  spaces, tab\tand\nline ",
        "a merchant called <end><USER><pad>",
    ],
)
def test_any_text_comes_back_unchanged(tokenizers: Tokenizers, text: str) -> None:
    ids = tokenizers.answer_ids([text])[0]
    assert ids[-1] == END
    assert not np.isin(ids[:-1], (PAD, END, USER)).any()
    assert tokenizers.answer_text(ids.tolist()) == text


def test_an_event_begins_with_cls_and_keeps_it_when_cut(tokenizers: Tokenizers) -> None:
    long = "paid ~8 for coffee at a place with a very long name 学校学校学校"
    whole, cut = tokenizers.event_ids([long], 1000)[0], tokenizers.event_ids([long], 6)[0]
    assert whole[0] == CLS
    assert len(cut) == 6
    assert cut.tolist() == whole[:6].tolist()
    assert CLS not in tokenizers.event_ids(["<cls> <pad>"], 100)[0][1:]


def test_an_instruction_ends_with_user(tokenizers: Tokenizers) -> None:
    ids = tokenizers.instruction_ids([None, "What does this user like?"])
    assert ids[0].tolist() == [USER]
    assert ids[1][-1] == USER
    assert (ids[1][:-1] > USER).all()


def test_an_answer_cut_short_still_ends(tokenizers: Tokenizers) -> None:
    ids = tokenizers.answer_ids(["The user likes coffee and much more than that."], 5)[0]
    assert len(ids) == 5
    assert ids[-1] == END


def test_padding_is_to_the_longest_of_the_texts_asked_for(tokenizers: Tokenizers) -> None:
    texts = ["films mall", "", "paid ~16 for 外卖 at 学校"]
    ids = tokenizers.event_ids(texts, 100)
    ids_TL, mask_TL = ids.padded(np.array([2, 1]))
    assert ids_TL.shape == (2, len(ids[2]))
    assert mask_TL.sum(1).tolist() == [len(ids[2]), 1]
    assert ids_TL[0].tolist() == ids[2].tolist()
    assert ids_TL[1].tolist() == [CLS] + [PAD] * (len(ids[2]) - 1)


def test_files_give_the_same_tokens(tokenizers: Tokenizers, tmp_path: Path) -> None:
    tokenizers.save(tmp_path)
    loaded = Tokenizers.load(tmp_path)
    text = "unseen 词 <end>"
    assert loaded.answer_ids([text])[0].tolist() == tokenizers.answer_ids([text])[0].tolist()
    assert loaded.event_ids([text], 9)[0].tolist() == tokenizers.event_ids([text], 9)[0].tolist()


def test_training_does_not_depend_on_the_order_of_texts(tokenizers: Tokenizers) -> None:
    turned = example(EVENTS[::-1], LANGUAGE[::-1])
    assert turned.event.to_str() == tokenizers.event.to_str()
    assert turned.language.to_str() == tokenizers.language.to_str()


def test_a_missing_or_foreign_file_is_named(tokenizers: Tokenizers, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"event_tokenizer\.json"):
        Tokenizers.load(tmp_path)
    tokenizers.save(tmp_path)
    event, language = (tmp_path / f"{name}_tokenizer.json" for name in ("event", "language"))
    whole = event.read_text()
    event.write_text(language.read_text())
    with pytest.raises(TokenizerError, match="<cls>"):
        Tokenizers.load(tmp_path)
    event.write_text(whole)
    language.write_text(whole)
    with pytest.raises(TokenizerError, match="no language tokenizer"):
        Tokenizers.load(tmp_path)
