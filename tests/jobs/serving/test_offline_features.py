"""Features point in time, against a literal as-of join; offline, online and the embeddings say the same."""

from __future__ import annotations

import deltalake
import numpy as np
import pandas as pd
import pytest

from feature_repo.settings import StoreError
from jobs.lake.user_ids import UserIdError
from jobs.serving.entity_rows import FrameError
from jobs.serving.lookup import lookup
from jobs.serving.offline_features import SETTINGS, features
from tests.support.embedded import DAY3, SCENARIOS, USERS, latest

TIMES = pd.to_datetime(["2025-02-28T23:59:59Z", "2025-03-01T00:00:00Z", "2025-03-02T12:00:00Z", "2025-03-04T00:00:00Z"])


def entity_rows() -> pd.DataFrame:
    return pd.DataFrame(
        [(user, at, number) for number, user in enumerate([*USERS, "nobody"]) for at in TIMES],
        columns=["user_id", "as_of", "label"],
    )


def literal(entities: pd.DataFrame, embeddings: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """Pandas' own as-of join of the rows of `user_embeddings`."""
    right = embeddings[embeddings["scenario"] == scenario].sort_values("as_of")[["user_id", "as_of", "embedding"]]
    right["made_at"] = right["as_of"]
    return pd.merge_asof(entities.sort_values("as_of"), right, on="as_of", by="user_id")


@pytest.mark.parametrize("kind", ["pandas", "spark"])
def test_features_are_a_literal_as_of_join(published, spark, kind):
    embeddings = deltalake.DeltaTable(published.table("user_embeddings")).to_pandas()
    embeddings["as_of"] = embeddings["as_of"].astype("datetime64[ns, UTC]")
    entities = entity_rows()
    before = [spark.conf.get(key) for key in SETTINGS]
    joined = features(spark, published, entities if kind == "pandas" else spark.createDataFrame(entities))
    assert [spark.conf.get(key) for key in SETTINGS] == before
    assert joined.columns[:3] == ["user_id", "as_of", "label"]
    result = joined.toPandas()
    assert len(result) == len(entities)
    result["as_of"] = result["as_of"].dt.tz_localize("UTC") if result["as_of"].dt.tz is None else result["as_of"]
    rows = result.set_index(["user_id", "as_of"])
    present = 0
    for scenario in SCENARIOS:
        for expected in literal(entities, embeddings, scenario).itertuples():
            row = rows.loc[(expected.user_id, expected.as_of)]
            assert row["label"] == expected.label
            if not isinstance(expected.embedding, np.ndarray | list):  # not yet embedded, or ended
                assert row[scenario] is None
                assert pd.isna(row[f"{scenario}_as_of"])
                continue
            present += 1
            vector = np.asarray(row[scenario])
            assert vector @ np.asarray(expected.embedding) / np.linalg.norm(vector) > 0.9999
            assert pd.Timestamp(row[f"{scenario}_as_of"]).tz_localize(None) == expected.made_at.tz_localize(None)
    assert present == sum(len(latest(at.date())) for at in TIMES)


def test_offline_online_and_the_embeddings_agree(published, spark):
    now = pd.DataFrame({"user_id": USERS, "as_of": "2025-06-01"})
    offline = features(spark, published, now, ["film", "universal"]).toPandas().set_index("user_id")
    assert list(offline.columns) == [
        "as_of",
        *(f"{s}{part}" for s in ("film", "universal") for part in ("", "_model_version", "_as_of")),
    ]
    for answer in lookup(published, USERS):
        for scenario in ("film", "universal"):
            truth = latest(DAY3).get((answer.user_id, scenario))
            packed = offline.loc[answer.user_id, scenario]
            assert (packed is None) == (truth is None) == (scenario not in answer.vectors)
            if truth is not None:
                vector = answer.vectors[scenario].vector
                assert np.array_equal(np.asarray(packed, dtype=np.float32), vector)
                assert vector @ truth[0] / np.linalg.norm(vector) > 0.9999


SEVENS = {
    "whole numbers": [7, 7],
    "a double and a padded text": [7.0, "7     "],
    "categories": pd.Series(["7", "7"], dtype="category"),
}


@pytest.mark.parametrize("kind", SEVENS)
def test_a_user_id_of_any_type_is_one_user(published, spark, kind):
    """7 is the user '7' and not '007', and the answer has the rows that were asked for."""
    times = ["2025-03-01", "2025-03-03"]
    entities = pd.DataFrame({"user_id": pd.Series(SEVENS[kind]), "as_of": times})
    rows = features(spark, published, entities, ["food"]).toArrow().to_pylist()
    assert [row["user_id"] for row in rows] == ["7", "7"]
    assert [row["food"] is None for row in sorted(rows, key=lambda row: row["as_of"])] == [True, False]
    expected, vector = latest(DAY3)["7", "food"][0], next(np.array(row["food"]) for row in rows if row["food"])
    assert vector @ expected / np.linalg.norm(expected) > 0.9999


def test_the_user_ids_of_a_spark_frame_stay_exact(published, spark):
    frame = spark.sql(
        "SELECT CAST(v AS BIGINT) AS user_id, DATE'2025-06-01' AS as_of FROM VALUES (7), (9007199254740993) t(v)"
    )
    rows = features(spark, published, frame, ["food"]).toArrow().to_pylist()
    assert {row["user_id"]: row["food"] is None for row in rows} == {"7": False, "9007199254740993": True}
    decimals = frame.selectExpr("CAST(user_id AS DECIMAL(38, 0)) AS user_id", "as_of")
    assert {row["user_id"] for row in features(spark, published, decimals, ["food"]).collect()} == {
        row["user_id"] for row in rows
    }


@pytest.mark.parametrize(
    ("users", "said"),
    [
        (["u01", None], "row 1: no user id"),
        ([7.0, float("nan")], "row 1: no user id"),
        ([7.5, 7.0], "row 0: user id is not a whole number"),
        ([2.0**53, 7.0], "row 0: user id is too large for a floating-point number"),
        ([b"u01", b"u02"], "row 0: user id of type bytes"),
        ([True, False], "row 0: user id of type bool"),
        (["u01", " "], "row 1: empty user id"),
        (pd.to_datetime(["2025-01-01", "2025-01-02"]), "row 0: user id of type Timestamp"),
    ],
    ids=str,
)
def test_a_row_without_a_user_id_is_refused(published, spark, users, said):
    with pytest.raises(UserIdError, match=said):
        features(spark, published, pd.DataFrame({"user_id": users, "as_of": "2025-06-01"}))


def test_mistakes_are_named(published, spark, deployment):
    with pytest.raises(FrameError, match="no column as_of"):
        features(spark, published, pd.DataFrame({"user_id": ["u01"]}))
    with pytest.raises(FrameError, match="has no row"):
        features(spark, published, entity_rows().iloc[:0])
    with pytest.raises(StoreError, match="scenario 'foood' was never published"):
        features(spark, published, entity_rows(), ["foood"])
    with pytest.raises(StoreError, match="run `instructue publish` first"):
        features(spark, deployment(), entity_rows())
