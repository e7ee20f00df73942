"""The lookup: what a service gets for its users, and what it does not have to load."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from feature_repo.settings import StoreError
from feature_repo.vectors import VectorError
from jobs.cli.pages.lookup import lookup_page
from jobs.console import terminal
from jobs.serving.lookup import Lookup, lookup
from tests.support.embedded import DAY1, DAY2, DAY3, SCENARIOS, latest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def look_up(published) -> Lookup:
    return Lookup(published, freeze=False)


def test_answers_come_in_the_order_asked(look_up):
    users = ["u07", "nobody", "u10", "u07", "7"]
    answers = look_up(users)
    assert [(answer.user_id, answer.has_vectors) for answer in answers] == [
        ("u07", True),
        ("nobody", False),
        ("u10", False),
        ("u07", True),
        ("7", True),
    ]
    assert [dict(answer.vectors) for answer in answers if not answer.has_vectors] == [{}, {}]
    vector = answers[3].vectors["food"].vector
    assert vector.dtype == np.float32
    assert np.array_equal(vector, latest(DAY3)["u07", "food"][0].astype(np.float16).astype(np.float32))
    assert look_up([]) == []


@pytest.mark.parametrize(
    "users",
    [
        [7, "007", "7 "],
        [np.int32(7), "007   ", Decimal("7.00")],
        np.array(["7", "007", "7"]),
        pd.Series(["7", "007", "7"], dtype="category"),
        pa.array(["7", "007", "7"], pa.large_string()),
    ],
    ids=lambda users: type(users).__name__,
)
def test_a_user_may_be_given_in_every_type(look_up, users):
    seven, agent, again = look_up(users, ["food"])
    assert (seven.user_id, agent.user_id, again.user_id) == ("7", "007", "7")
    for answer in (seven, agent, again):
        expected = latest(DAY3)[answer.user_id, "food"][0]
        assert answer.vectors["food"].vector @ expected / np.linalg.norm(expected) > 0.9999


def test_age_model_version_and_as_of_are_each_vectors_own(look_up):
    [answer] = look_up(["u07"], now=datetime(2025, 3, 5, 23, tzinfo=UTC))
    assert answer.vectors.keys() == set(SCENARIOS)
    shown = {name: (v.as_of, v.age, v.model_version) for name, v in answer.vectors.items()}
    assert shown["food"] == (datetime(2025, 3, 2, tzinfo=UTC), 3, "m1")
    assert shown["film"] == shown["universal"] == (datetime(2025, 3, 1, tzinfo=UTC), 4, "m1")
    assert (DAY1.day, DAY2.day) == (1, 2)


def test_a_person_is_told_version_and_age_of_each_vector(look_up, capsys):
    answers = look_up(["u07", "nobody"], now=datetime(2025, 3, 3, tzinfo=UTC))
    terminal.out.print(lookup_page(answers, 1.23))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    [food], [film], [nobody] = ([line for line in lines if name in line] for name in ("food", "film", "nobody"))
    assert food[:7] == ["u07", "food", "2025-03-02", "1", "day", "m1", "16"]
    assert film[:7] == ["u07", "film", "2025-03-01", "2", "days", "m1", "16"]
    assert nobody == ["nobody", "not", "online"]


@pytest.mark.slow
def test_a_program_gets_json_and_nothing_else(look_up, published):
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "lookup", "u07", "nobody", "-s", "food", "--json", "-c", str(published.path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    known, unknown = map(json.loads, done.stdout.splitlines())
    assert unknown == {"user_id": "nobody", "has_vectors": False, "vectors": {}}
    [own] = look_up(["u07"])
    vector = known["vectors"]["food"]
    assert np.array_equal(np.float32(vector["vector"]), own.vectors["food"].vector)
    assert (vector["as_of"], vector["model_version"]) == ("2025-03-02T00:00:00+00:00", "m1")
    assert vector["age"] == own.vectors["food"].age


@pytest.mark.parametrize("scenarios", [["film"], ["film", "food"], ["food", "universal", "film"]])
def test_only_the_scenarios_asked_for(look_up, scenarios):
    whole, ended = look_up(["u08", "u13"], scenarios)
    assert whole.vectors.keys() == set(scenarios)
    assert ended.vectors.keys() == set(scenarios) - {"film"}
    assert ended.has_vectors == (scenarios != ["film"])
    everything = look_up(["u08"])[0].vectors
    assert all(np.array_equal(v.vector, everything[name].vector) for name, v in whole.vectors.items())


def test_mistakes_are_named(look_up, published, deployment):
    with pytest.raises(StoreError, match=r"scenario 'foood' was never published; use one of universal, food, film"):
        look_up(["u01"], ["foood"])
    with pytest.raises(StoreError, match="name some in a list"):
        look_up(["u01"], "food")
    with pytest.raises(StoreError, match="run `instructue publish` first"):
        lookup(deployment(), ["u01"])
    assert not Path(deployment().resolve("store")).exists()


def test_a_width_that_is_not_the_published_one_is_refused(published):
    look_up = Lookup(published, freeze=False)
    look_up._widths["food"] = 8
    with pytest.raises(VectorError, match="32 bytes are not a vector of 8"):
        look_up(["u01"])


def test_threads_of_a_service_share_one(look_up):
    same: list[bool] = []

    def ask(user: str) -> None:
        for _ in range(20):
            answer = look_up([user])[0]
            same.append(answer.user_id == user and answer.vectors["food"].vector.tobytes() == expected[user])

    users = ["u14", "u15", "u16", "u17"]
    expected = {answer.user_id: answer.vectors["food"].vector.tobytes() for answer in look_up(users)}
    threads = [threading.Thread(target=ask, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 80


@pytest.mark.slow
def test_a_lookup_loads_neither_spark_nor_torch(published):
    code = (
        "import sys; from jobs.config.deployment import Deployment; from jobs.serving.lookup import lookup\n"
        f"[answer] = lookup(Deployment.read({str(published.path)!r}), ['u01'])\n"
        "loaded = {'pyspark', 'torch', 'onnxruntime', 'airflow'} & {*sys.modules}\n"
        "print(answer.has_vectors, len(answer.vectors), loaded)\n"
        "import torch; print(torch.ones(2).sum().item())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["True 3 set()", "2.0"], done.stderr
