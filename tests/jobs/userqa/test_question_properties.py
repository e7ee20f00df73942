"""Whatever malformed values a questions file holds, one error names each question, key and value."""

from __future__ import annotations

import random
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.userqa.questions import Questions
from model.errors import InstructUEError

FILES = 60
VALID: dict[str, Any] = {
    "axis": "attribute",
    "instruction": "How often does this user pay?",
    "source": "bill",
    "measure": "count",
    "days": 30,
    "answer": {"bands": [2, 4], "text": "The user paid {times}.", "none": "The user did not pay."},
}
MALFORMED: dict[str, tuple[Any, ...]] = {
    "axis": ("past", "", 5, True, []),
    "measure": ("median", "", 5, []),
    "days": (0, -1, 2.5, "many", True, [], {}, float("nan"), 10**9),
    "instruction": ("", "  ", 5, True, [], ["  "], {}),
    "last_as_of": ("tomorrow", 20250101, True, "1969-12-31", datetime(2025, 1, 1, 10), []),
    "source": (5, True, [], {}),
    "answer": ("yes", 5, []),
    "answer.bands": ([4, 2], [float("nan")], "many", 5),
    "answer.text": (5, "", "{what}", "{times.__class__}", "{times!r}", "{times:>10}", "{times", "{}", "{0}"),
    "answer.none": (5, "Paid {times}."),
}


def question(name: str, key: str, value: Any) -> dict[str, Any]:
    """Return a question with one value changed."""
    section, _, inner = key.partition(".")
    changed = {**VALID[section], inner: value} if inner else value
    return {"name": name, **VALID, section: changed}


@pytest.mark.parametrize("seed", range(FILES))
def test_every_malformed_question_is_named_in_one_error(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    keys = {f"question_{number}": rng.choice([*MALFORMED]) for number in range(rng.randint(1, 4))}
    questions = [question(name, key, rng.choice(MALFORMED[key])) for name, key in keys.items()]
    questions.insert(rng.randint(0, len(questions)), {"name": "valid", **VALID})
    path = tmp_path / "questions.yaml"
    path.write_text(yaml.safe_dump({"questions": questions}), encoding="utf-8")
    with pytest.raises(InstructUEError) as caught:
        Questions.read(path)
    headline, *lines = str(caught.value).split("\n")
    assert headline.endswith(f": {len(keys)} error{'s' * (len(keys) > 1)}"), (questions, lines)
    for name, key in keys.items():
        [line] = [line for line in lines if line.strip().startswith(f"{name}.{key.partition('.')[0]}")]
        assert len(line.split(": ", 1)[1]) > 5, line
