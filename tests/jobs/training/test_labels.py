"""The labels of a scenario are a set: repeats are dropped, contradictions refused, and the rest is accounted for."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from jobs.config.deployment import Deployment
from jobs.lake import delta
from jobs.training.label_tables import LabelError
from jobs.training.labels import LabelSet, LeftOut, labelled_profiles, read_labels
from tests.support.deployment import deploy
from tests.support.error_page import case, refused, row
from tests.support.training_tables import LABELS_AS_OF, label_row, write_day, write_labels


def labelled(folder, labels: Any = "labels") -> Deployment:
    return deploy(folder, scenarios=[{"name": "food", "instruction": "Food?", "labels": labels}])


def read(deployment: Deployment, **more: Any) -> LabelSet:
    return read_labels(deployment, deployment.scenarios, **more)["food"]


# delta #527, feast #1693, pega-datascientist-tools #947: repeats that change a figure
def test_labels_are_a_set_whatever_the_order_and_the_repeats(tmp_path):
    rng = random.Random(1)
    rows = [
        label_row(f"u{user:02d}", rng.randrange(2)) | {"as_of": LABELS_AS_OF + timedelta(days=day)}
        for user in range(30)
        for day in range(rng.randrange(1, 4))
    ]
    many = [one for one in rows for _ in range(rng.randrange(1, 4))] + [label_row("u00", 1, "film")] * 3
    rng.shuffle(many)
    deployment = labelled(tmp_path)
    write_labels(deployment, "labels", many)
    result = read(deployment)
    assert result.rows.to_pylist() == [
        {name: one[name] for name in ("user_id", "as_of", "label")}
        for one in sorted(rows, key=lambda one: (one["user_id"], one["as_of"]))
    ]
    assert (result.rows_in, result.repeated, result.superseded) == (len(many) - 3, len(many) - 3 - len(rows), 0)


def test_rows_that_differ_in_type_alone_are_repeats(tmp_path):
    """A CHAR's padding, and one moment as two offsets write it."""
    deployment = labelled(tmp_path)
    table = pa.table(
        {
            "user_id": ["u1", "u1   ", "u1"],
            "as_of": ["2025-03-03", "2025-03-03T08:00:00+08:00", "2025-03-02 19:00:00-05:00"],
            "scenario": ["food", "food ", "food"],
            "label": [1.0, 1.0, 1.0],
        }
    )
    deltalake.write_deltalake(deployment.table("labels"), table)
    result = read(deployment)
    assert result.rows.to_pylist() == [{"user_id": "u1", "as_of": LABELS_AS_OF, "label": 1}]
    assert (result.rows_in, result.repeated) == (3, 2)


# delta #131, #218, #325, delta-rs #4359: several rows for one key
@row("labels that contradict each other")
def test_contradictions_are_refused_with_their_number_and_an_example(wrong, tmp_path):
    deployment = labelled(tmp_path)
    rows = [label_row(user, value) for user in ("u1", "u2", "u3") for value in (0, 1)] + [label_row("u4")] * 2
    write_labels(deployment, "labels", [*rows, label_row("u1", 0) | {"as_of": LABELS_AS_OF + timedelta(days=1)}])
    with refused(wrong):
        read(deployment)
    with refused(wrong):
        read(deployment, yes_or_no=False)


# SPARK-32110: two zeros of one label
def test_a_label_has_one_zero(tmp_path):
    deployment = labelled(tmp_path)
    columns = {"user_id": ["u1"] * 2, "as_of": ["2025-03-03"] * 2, "scenario": ["food"] * 2, "label": [0.0, -0.0]}
    deltalake.write_deltalake(deployment.table("labels"), pa.table(columns))
    result = read(deployment)
    assert (result.rows["label"].to_pylist(), result.repeated) == ([0], 1)


@pytest.mark.parametrize(
    ("wrong", "columns"),
    [
        case("a label of half a number", {"label": [0.5, 1.0]}),
        case("a label's time in words", {"as_of": ["yesterday", "2025-03-03"]}),
        case("labels of users who are bytes", {"user_id": [b"u1", b"u2"]}),
        case("labels as texts", {"label": ["yes", "no"]}),
    ],
)
def test_labels_of_a_wrong_kind_are_refused(wrong, columns, tmp_path):
    deployment = labelled(tmp_path)
    plain = {"user_id": ["u1", "u2"], "as_of": ["2025-03-03"] * 2, "scenario": ["food"] * 2, "label": [0, 1]}
    deltalake.write_deltalake(deployment.table("labels"), pa.table(plain | columns))
    with refused(wrong):
        read(deployment)


VERSIONS = [(1, 2, 3), (1.5, 2.5, 3.5), tuple(Decimal(n) / 2 for n in (1, 2, 3))]
VERSIONS += [tuple(date(2025, 1, n) for n in (1, 2, 3)), tuple(datetime(2025, 1, n, tzinfo=UTC) for n in (1, 2, 3))]


# feast #3360: three copies of a key, ordered by a column
@pytest.mark.parametrize("versions", VERSIONS, ids=lambda versions: type(versions[0]).__name__)
def test_the_latest_label_counts_where_a_column_orders_them(tmp_path, versions):
    old, new, newest = versions
    rows = [("u1", 0, newest), ("u1", 1, old), ("u1", 1, new), ("u2", 1, new), ("u2", 1, new), ("u3", 0, old)]
    deployment = labelled(tmp_path, {"table": "labels", "latest_by": "corrected"})
    columns = {name: [one[at] for one in rows] for at, name in enumerate(("user_id", "label", "corrected"))}
    many = len(rows)
    table = pa.table(columns | {"as_of": [LABELS_AS_OF] * many, "scenario": ["food"] * many})
    deltalake.write_deltalake(deployment.table("labels"), table)
    result = read(deployment)
    assert result.rows.select(["user_id", "label"]).to_pylist() == [
        {"user_id": user, "label": label} for user, label in (("u1", 0), ("u2", 1), ("u3", 0))
    ]
    assert (result.rows_in, result.superseded, result.repeated) == (6, 2, 1)


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ([1, 1], "1 user of scenario 'food' with labels that contradict each other .* the same corrected; correct one"),
        ([1, None], "1 row of scenario 'food': no corrected; correct or remove them"),
        (["a", "b"], "column corrected is string; write numbers or times"),
    ],
)
def test_a_version_that_orders_nothing_is_refused(tmp_path, versions, said):
    deployment = labelled(tmp_path, {"table": "labels", "latest_by": "corrected"})
    rows = pa.table({"user_id": ["u1"] * 2, "as_of": ["2025-03-03"] * 2, "scenario": ["food"] * 2, "label": [0, 1]})
    deltalake.write_deltalake(deployment.table("labels"), rows.append_column("corrected", pa.array(versions)))
    with pytest.raises(LabelError, match=said):
        read(deployment)


PROFILES = [
    ("active", "2025-03-01", "a1"),
    ("active", "2025-03-03", "a2"),
    ("active", "2025-03-05", "a3"),
    ("ended", "2025-03-01", "b1"),
    ("ended", "2025-03-03", None),
    ("later", "2025-03-04", "c1"),
]
TIMES = ["2025-02-28", "2025-03-01", "2025-03-02T23:59:59", "2025-03-03", "2025-03-04T12:00:00", "2025-03-09"]


def test_each_label_has_the_latest_profile_at_or_before_it(tmp_path):
    deployment = labelled(tmp_path)
    for day in sorted({day for _, day, _ in PROFILES}):
        rows = [(user, profile) for user, at, profile in PROFILES if at == day]
        table = pa.table(
            {"user_id": [user for user, _ in rows], "profile_hash": pa.array([h for _, h in rows], pa.string())}
        )
        write_day(deployment, "user_profiles", table, date.fromisoformat(day))
    users = ["active", "ended", "later", "nobody"]
    rows = [
        label_row(user, 1) | {"as_of": datetime.fromisoformat(time).replace(tzinfo=UTC)}
        for user in users
        for time in TIMES
    ]
    write_labels(deployment, "labels", rows)
    labels = read_labels(deployment, deployment.scenarios)
    profiles, [group], left_out = labelled_profiles(deployment, delta.open_table(deployment, "user_profiles"), labels)
    result = list(zip(group.user_ids, profiles["profile_hash"].take(group.row_U).to_pylist(), strict=True))
    literal = [
        (one["user_id"], max((day, profile) for user, day, profile in past)[1])
        for one in sorted(rows, key=lambda one: (one["user_id"], one["as_of"]))
        if (past := [p for p in PROFILES if p[0] == one["user_id"] and p[1] <= one["as_of"].isoformat()])
        and max(past, key=lambda p: p[1])[2]
    ]
    assert result == literal
    assert len(profiles) == len({profile for _, profile in literal})
    assert group.users == 3
    assert left_out == {"food": LeftOut(repeated=0, superseded=0, no_profile=1 + 1 + 4 + 6, deactivated=3, users=1)}
    assert left_out["food"].reasons("food") == {"food: no profile": 12, "food: deactivated": 3}
    assert (
        str(left_out["food"]) == "1 labelled user left out; 12 labels without a profile; 3 labels of deactivated users"
    )
