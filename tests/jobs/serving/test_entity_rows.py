"""The frames of `features`: every column and row comes back as it was given, or the frame is refused by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs.config.deployment import Deployment
from jobs.serving.entity_rows import FrameError
from jobs.serving.offline_features import features
from jobs.serving.publish import publish
from tests.support.deployment import deploy
from tests.support.embedded import DAY1, DAYS, SCENARIOS, USERS, embed, some
from tests.support.error_page import case, refused

NOON = datetime(2025, 3, 2, 12, tzinfo=UTC)
SUMMER = datetime(2025, 6, 1, tzinfo=UTC)
SHANGHAI = timezone(timedelta(hours=8))


def expected(user: str, at: datetime) -> tuple[list[float] | None, datetime | None]:
    """Return the vector of `food` at a time and its day, by a loop over the made-up days."""
    vector, made_at = None, None
    for day, rows in sorted(DAYS.items()):
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if midnight <= at and (user, "food") in rows:
            value = rows[user, "food"]
            vector, made_at = (None, None) if value is None else (value.astype("<f2").tolist(), midnight)
    return vector, made_at


def assert_joined(frame: pd.DataFrame, result: Any, moments: list[datetime]) -> None:
    """Assert that the result has the rows in their order, with the vectors of the made-up days."""
    rows = result.select("user_id", "as_of", "food", "food_as_of").toArrow().to_pylist()
    assert [row["user_id"] for row in rows] == list(frame["user_id"])
    assert [row["as_of"] for row in rows] == moments
    for row, at in zip(rows, moments, strict=True):
        vector, made_at = expected(row["user_id"], at)
        assert (row["food"], row["food_as_of"]) == (vector, made_at), row["user_id"]


# feast #1693, #5590, #6787
def test_the_rows_come_back_in_their_order(published: Deployment, spark: Any) -> None:
    """Repeated rows, unknown users, an index of its own, and more rows than a batch of Arrow."""
    rng = np.random.default_rng(0)
    count = 12_000
    frame = pd.DataFrame(
        {"user_id": rng.choice([*USERS, "nobody"], count), "as_of": NOON.replace(tzinfo=None), "n": range(count)},
        index=rng.permutation(count),
    )
    frame["as_of"] += pd.to_timedelta(rng.integers(-72, 72, count), unit="h")
    before = frame.copy()
    result = features(spark, published, frame, ["food"]).cache()
    pd.testing.assert_frame_equal(frame, before)
    assert_joined(frame, result, [at.replace(tzinfo=UTC) for at in frame["as_of"].dt.to_pydatetime()])
    assert [row["n"] for row in result.select("n").collect()] == list(range(count))
    result.unpersist()


TIMES: dict[str, tuple[Any, datetime]] = {
    "a text of a day": ("2025-03-02", NOON.replace(hour=0)),
    "a text without an offset": ("2025-03-02 12:00:00", NOON),
    "a text with T": ("2025-03-02T12:00", NOON),
    "a text with Z": ("2025-03-02T12:00:00Z", NOON),
    "a text with an offset": ("2025-03-02T20:00:00+08:00", NOON),
    "a text with an offset without a colon": ("2025-03-02T20:00:00+0800", NOON),
    "a text with milliseconds": ("2025-03-02T12:00:00.250", NOON.replace(microsecond=250_000)),
    "a text with nanoseconds": ("2025-03-02T12:00:00.123456789", NOON.replace(microsecond=123_456)),
    "a text in basic form": ("20250302T120000Z", NOON),
    "a text with blanks around it": (" 2025-03-02T12:00:00 ", NOON),
    "a date": (date(2025, 3, 2), NOON.replace(hour=0)),
    "a naive time": (datetime(2025, 3, 2, 12), NOON),
    "a time with a zone": (datetime(2025, 3, 2, 20, tzinfo=SHANGHAI), NOON),
    "a time of pandas": (pd.Timestamp("2025-03-02 13:00", tz="Europe/Berlin"), NOON),
    "a time of numpy": (np.datetime64("2025-03-02T12:00"), NOON),
    "the first of two equal hours": (
        pd.Timestamp("2024-11-03 05:30", tz="UTC"),
        datetime(2024, 11, 3, 5, 30, tzinfo=UTC),
    ),
    "the second of two equal hours": (
        pd.Timestamp("2024-11-03 06:30", tz="UTC"),
        datetime(2024, 11, 3, 6, 30, tzinfo=UTC),
    ),
    "a microsecond before a day's vectors": (
        datetime(2025, 3, 1, 23, 59, 59, 999_999),
        datetime(2025, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC),
    ),
    "the moment of a day's vectors": ("2025-03-02T00:00:00", NOON.replace(hour=0)),
    "a time long ago": (datetime(1000, 1, 1), datetime(1000, 1, 1, tzinfo=UTC)),
    "a time far ahead": ("9998-12-31T23:59:59", datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC)),
}


# feast #229, #1576, #2793
def test_kinds_of_times_may_be_mixed(published: Deployment, spark: Any) -> None:
    values = [value for value, _ in TIMES.values()]
    frame = pd.DataFrame({"user_id": USERS[: len(values)], "as_of": pd.Series(values, dtype=object)})
    # In this zone two of the moments have the same local time.
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        result = features(spark, published, frame, ["food"])
        assert_joined(frame, result, [moment for _, moment in TIMES.values()])
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


COLUMNS: dict[str, Any] = {
    "event_timestamp": [1, 2],
    "entity_timestamp": ["a", "b"],
    "day": [date(2025, 3, 1), None],
    "a blank": [1.5, None],
    "a.dot": [True, False],
    "back`tick": ["x", None],
    "quo\"te's": [1, 2],
    "汉字": ["外卖", ""],
    "SELECT": [1, 2],
    "label (0/1)": np.array([0, 1], np.int8),
    "_position": [5, 6],
    "_0": [7, 8],
    "c0": [9, 10],
    "row_number": [1, 1],
    "user_vectors__entity_row_unique_id": ["p", "q"],
    "food2": [1, 2],
    "film_model": [3, 4],
    "category": pd.Categorical(["red", None]),
    "list": [[1.0, 2.0], None],
    "texts": [["a"], []],
    "struct": [{"x": 1}, {"x": 2}],
    "bytes": [b"\x00\xff", None],
    "decimal": [Decimal("1.10"), Decimal("2.25")],
    "unsigned": np.array([2**64 - 1, 0], np.uint64),
    "small": np.array([200, 0], np.uint8),
    "half": np.array([0.5, 1.5], np.float16),
    "nullable": pd.array([2**53 + 1, None], "Int64"),
    "of Arrow": pd.array(["x", None], "string[pyarrow]"),
    "nothing": [None, None],
    "naive": pd.to_datetime(["2025-01-01 10:00", None]),
    "zoned": pd.to_datetime(["2025-01-01 10:00", None]).tz_localize("Asia/Shanghai"),
    "duration": pd.to_timedelta([90, None], unit="s"),
}


# feast #3412
def test_columns_of_any_name_and_type_are_kept(published: Deployment, spark: Any) -> None:
    frame = pd.DataFrame({"label": [1, 0], "as_of": [NOON, NOON], **COLUMNS, "user_id": ["u01", "u02"]}, index=[5, 5])
    result = features(spark, published, frame, ["food"])
    assert result.columns == [*frame.columns, "food", "food_model_version", "food_as_of"]
    assert_joined(frame, result, [NOON, NOON])
    rows = result.toArrow().to_pylist()
    for name in COLUMNS:
        first, second = frame[name].tolist()
        assert rows[0][name] == (first.tz_localize("UTC") if name == "naive" else first), name
        is_missing = second is None or second is pd.NA or second is pd.NaT or second != second
        assert rows[1][name] == (None if is_missing else second), name


def one_row(times: Any = "2025-06-01", **columns: Any) -> pd.DataFrame:
    """Return a frame of one row, or of one for each time, with these columns beside user and time."""
    times = [times] if isinstance(times, str) else times
    return pd.DataFrame({"user_id": [f"u{n:02d}" for n in range(len(times))], "as_of": times, **columns})


DAY = pd.period_range("2025-03-02", periods=1)
LEVELS = pd.MultiIndex.from_tuples([("a", "user_id"), ("a", "as_of")])
ON_PAGE = [
    case("a frame with its user ids in the index", one_row().set_index("user_id")),
    case("a frame with a column of a scenario's name", one_row(food=1)),
    case("a frame with two columns that differ in case", one_row(N=1, n=2)),
    case("a frame with a column of mixed types", one_row(["2025-06-01"] * 2, mix=[1, "x"])),
    case("a frame with a time that is missing", one_row(["2025-06-01", None])),
    case("a frame with a time in words", one_row("yesterday")),
    case("a frame with numbers for times", one_row([20250302])),
]
REFUSED: dict[str, tuple[Any, str]] = {
    "a list for a frame": ([("u01", "2025-06-01")], "entity_df is list; give a DataFrame of pandas or Spark"),
    # feast #3324
    "a frame without a row": (one_row([]), "entity_df has no row; give it user_id and as_of"),
    # feast #1464
    "a frame without as_of": (one_row().drop(columns="as_of"), "entity_df has no column as_of; give it user_id"),
    "a frame with a column of a scenario's name in capitals": (
        one_row(Food_As_Of=1),
        "entity_df has a column 'Food_As_Of', and the result has a column 'food_as_of' of its own",
    ),
    "a frame with two columns of one name": (
        pd.concat([one_row(n=1), pd.DataFrame({"n": [2]})], axis="columns"),
        "entity_df has two columns named 'n' and 'n'; rename one",
    ),
    "a frame with column names of two levels": (
        one_row().set_axis(LEVELS, axis="columns"),
        "entity_df has column names of several levels; flatten them to texts",
    ),
    "a frame with a number for a name": (
        one_row().assign(**{"n": 1}).rename(columns={"n": 0}),
        "a column named 0; rename",
    ),
    "a frame with an empty name": (one_row(**{" ": 1}), "entity_df has a column named ' '; rename it to a text"),
    "a frame with a column of complex numbers": (one_row(z=1j), "column 'z' of entity_df (complex128) cannot be kept"),
    "a frame with a column of periods": (one_row(p=DAY), "column 'p' of entity_df (period[D]) cannot be kept"),
    "a frame with a column of objects": (one_row(o=object()), "column 'o' of entity_df (object) cannot be kept"),
    "a frame with NaT": (one_row(pd.to_datetime(["2025-06-01", None])), "row 1: no time in as_of; drop the row"),
    "a frame with a time in the American form": (
        one_row("03/02/2025"),
        "row 0: as_of = '03/02/2025': is not an ISO time",
    ),
    "a frame with a time of a zone's abbreviation": (
        one_row("2025-03-02 12:00 CST"),
        "is not an ISO time; write it as",
    ),
    "a frame with a day that does not exist": (
        one_row("2025-02-30"),
        "row 0: as_of = '2025-02-30': is not an ISO time",
    ),
    "a frame with a time before the year 1": (
        one_row("0001-01-01T00:00+08:00"),
        "row 0: as_of = '0001-01-01T00:00+08:00'",
    ),
    "a frame with periods for times": (one_row(DAY), "as_of is period[D]; give times, dates or ISO texts"),
    "a frame with a list for a time": (one_row([["2025-03-02"]]), "row 0: as_of = ['2025-03-02']: "),
}
"""What is wrong, the frame, and what the message says where docs/errors.md does not."""


@pytest.mark.parametrize(
    ("wrong", "frame"), [*ON_PAGE, *(case(wrong, frame, said=said) for wrong, (frame, said) in REFUSED.items())]
)
def test_a_frame_that_cannot_be_joined_is_refused(wrong: str, frame: Any, published: Deployment, spark: Any) -> None:
    with refused(wrong):
        features(spark, published, frame)


def test_a_frame_of_spark_is_refused_and_kept_alike(published: Deployment, spark: Any) -> None:
    frame = spark.sql(
        "SELECT 'u01' AS user_id, TIMESTAMP_NTZ'2025-03-02 12:00:00' AS as_of, 1 AS `a.b`, array(1, 2) AS `two words`"
    )
    [row] = features(spark, published, frame, ["food"]).collect()
    assert (row["a.b"], row["two words"], row["food"]) == (1, [1, 2], expected("u01", NOON)[0])
    with pytest.raises(FrameError, match="two columns named 'n' and 'N'"):
        features(spark, published, frame.selectExpr("user_id", "as_of", "1 AS n", "2 AS N"))
    with pytest.raises(FrameError, match=r"column 'v' of entity_df \(variant\) cannot be kept"):
        features(spark, published, frame.selectExpr("user_id", "as_of", "parse_json('1') AS v"))


def test_a_scenario_may_have_the_name_of_a_column_of_feasts_query(spark: Any, tmp_path: Path) -> None:
    names = ("event_timestamp", "entity_timestamp", "created_timestamp", "row_number", "select")
    scenarios = [{"name": name, "instruction": f"Tell about {name}."} for name in names]
    deployment = deploy(tmp_path, scenarios=scenarios)
    vectors = some(1, ("u01",), ("universal", *names))
    embed(spark, deployment, DAY1, vectors)
    publish(spark, deployment, DAY1)
    [row] = features(spark, deployment, one_row().assign(user_id="u01")).toArrow().to_pylist()
    for name in names:
        assert row[name] == vectors["u01", name].astype("<f2").tolist(), name


def test_threads_may_share_a_session(published: Deployment, spark: Any) -> None:
    """Feast's views have the same names in every query; none of them is left in the session."""
    before = {table.name for table in spark.catalog.listTables()}
    frames = {user: one_row(n=number).assign(user_id=user) for number, user in enumerate(USERS[:4])}
    with ThreadPoolExecutor(4) as pool:
        results = dict(
            zip(frames, pool.map(lambda f: features(spark, published, f, ["food"]), frames.values()), strict=True)
        )
    for number, (user, result) in enumerate(results.items()):
        [row] = result.collect()
        assert (row["user_id"], row["n"], row["food"]) == (user, number, expected(user, SUMMER)[0])
    assert {table.name for table in spark.catalog.listTables()} == before


def test_scenarios_may_be_in_any_order(published: Deployment, spark: Any) -> None:
    frame = pd.DataFrame({"user_id": ["u01"], "as_of": [NOON]})
    assert features(spark, published, frame, SCENARIOS[::-1]).columns[2::3] == [*SCENARIOS[::-1]]
