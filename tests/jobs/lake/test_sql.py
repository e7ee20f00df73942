"""SQL over the lake, against numpy; temporary in a session, kept in a metastore."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import deltalake
import numpy as np
import pyarrow as pa
import pytest
import yaml

from jobs.config.deployment import Deployment
from jobs.lake.session import get_session
from jobs.lake.sql.definitions import DEFINITIONS
from jobs.lake.sql.query import SqlError, fetch_arrow, iterate_objects, iterate_rows, run_sql
from jobs.lake.sql.views import register_views
from tests.support.deployment import deploy
from tests.support.embedded import DAY2, DAY3, copy, embed, latest, some

ROOT = Path(__file__).parents[3]


def nearest(user: str, scenario: str, k: int) -> list[tuple[str, float]]:
    """The k most similar by numpy: of every pair of vectors, the cosine; ties by user."""
    vectors = {u: vector.astype(np.float64) for (u, s), (vector, _) in latest(DAY3).items() if s == scenario}
    own = vectors.pop(user)
    cosines = {u: vector @ own / np.linalg.norm(vector) / np.linalg.norm(own) for u, vector in vectors.items()}
    return sorted(cosines.items(), key=lambda pair: (-pair[1], pair[0]))[:k]


def test_most_similar_is_what_numpy_says(published, spark):
    for user, scenario, k in (("u03", "food", 5), ("u05", "film", 60)):
        query = f"SELECT * FROM most_similar('{user}', '{scenario}', {k})"
        rows = [tuple(row) for row in run_sql(spark, published, query).collect()]
        expected = nearest(user, scenario, k)
        assert [row[0] for row in rows] == [name for name, _ in expected]
        assert [row[1] for row in rows] == pytest.approx([cosine for _, cosine in expected], abs=1e-6)
        assert [row[2] for row in rows] == list(range(1, len(expected) + 1))
    assert run_sql(spark, published, "SELECT * FROM most_similar('u10', 'food', 5)").count() == 0


def test_similarity_of_two_users(published, spark):
    [row] = run_sql(
        spark,
        published,
        "SELECT similarity('u03', 'u04', 'food'), similarity('u03', 'u10', 'food'), similarity('u03', 'u03', 'film')",
    ).collect()
    assert row[0] == pytest.approx(dict(nearest("u03", "food", 60))["u04"], abs=1e-6)
    assert row[1] is None
    assert row[2] == pytest.approx(1, abs=1e-6)


def test_views_hold_the_vectors_that_stand(published, spark):
    rows = {
        (r.user_id, r.scenario): r.as_of.date()
        for r in run_sql(
            spark,
            published,
            """
        SELECT user_id, scenario, as_of + INTERVAL 12 HOURS AS as_of FROM latest_embeddings""",
        ).collect()
    }
    assert rows == {key: day for key, (_, day) in latest(DAY3).items()}
    film = {row.user_id for row in run_sql(spark, published, "SELECT user_id FROM embeddings_film").collect()}
    assert film == {user for user, scenario in latest(DAY3) if scenario == "film"}
    then = run_sql(spark, published, f"SELECT user_id, scenario FROM embeddings_at(DATE'{DAY2}')").collect()
    assert sorted(map(tuple, then)) == sorted(latest(DAY2))
    runs = run_sql(spark, published, "SELECT job, count(*) AS n FROM job_runs GROUP BY job ORDER BY job").collect()
    assert [tuple(run) for run in runs] == [("embed", 3), ("publish", 3)]


def test_views_and_functions_have_the_columns_that_their_definitions_say(published, spark):
    calls = {
        "embeddings_at": f"SELECT * FROM embeddings_at(DATE'{DAY2}')",
        "most_similar": "SELECT * FROM most_similar('u03', 'food', 1)",
        "similarity": "SELECT similarity('u03', 'u04', 'food')",
    }
    register_views(spark, published)
    for definition in DEFINITIONS:
        name = definition.name.replace("<scenario>", "food")
        query = f"SELECT * FROM {name}" if definition.parameters is None else calls[name]
        returned = [(field.name, field.dataType.simpleString()) for field in spark.sql(query).schema]
        if len(returned) == 1:
            returned = [("", returned[0][1])]
        assert returned == [(column.name, column.type) for column in definition.columns], name


def test_a_session_knows_the_names_from_its_start(published, spark):
    joined = get_session(published)
    rows = {row.user_id for row in joined.sql("SELECT user_id FROM embeddings_film").collect()}
    assert rows == {user for user, scenario in latest(DAY3) if scenario == "film"}
    [(name, _)] = nearest("u03", "food", 1)
    assert joined.sql("SELECT user_id FROM most_similar('u03', 'food', 1)").collect()[0].user_id == name


def test_what_is_not_there_yet_is_left_out(published, spark, tmp_path):
    assert "most_similar" in register_views(spark, published)
    deployment = deploy(tmp_path)
    get_session(deployment)
    assert not spark.catalog.tableExists("latest_embeddings")
    assert register_views(spark, deployment) == ()
    for query in (
        "SELECT * FROM latest_embeddings",
        "SELECT * FROM most_similar('u03', 'food', 1)",
        "SELECT similarity('u03', 'u04', 'food')",
    ):  # of the lake before
        with pytest.raises(SqlError, match=r"NOT_FOUND|UNRESOLVED|RESOLVABLE"):
            run_sql(spark, deployment, query)
    assert run_sql(spark, deployment, "SELECT 1 AS one").collect()[0].one == 1
    embed(spark, deployment, DAY2, some(1, ("a", "b"), ("universal",)))
    assert register_views(spark, deployment) == (
        "embeddings_at",
        "embeddings_universal",
        "job_runs",
        "latest_embeddings",
        "left_out",
        "most_similar",
        "similarity",
        "user_embeddings",
    )
    assert run_sql(spark, deployment, "SELECT * FROM embeddings_universal").count() == 2
    embed(spark, deployment, DAY3, some(2, ("c",), ("universal",)))
    assert run_sql(spark, deployment, "SELECT * FROM embeddings_universal").count() == 3


def test_a_table_that_cannot_be_read_is_logged_and_left_out(published, spark, tmp_path, caplog):
    deployment = copy(published, tmp_path / "copy")
    for part in ("*.json", "*.crc"):
        for commit in Path(deployment.table("user_embeddings"), "_delta_log").glob(part):
            commit.unlink()
    query = "SELECT user_id FROM user_vectors"
    for use in (get_session, lambda deployment: run_sql(spark, deployment, query).collect()):
        caplog.clear()
        assert use(deployment)
        warned = [record for record in caplog.records if record.name == "jobs.lake.sql.views"]
        assert any(record.getMessage().startswith("user_embeddings cannot be named in SQL: ") for record in warned)


def test_a_query_that_cannot_run_says_why(published, spark, capfd):
    with pytest.raises(SqlError, match=r"does not parse[\s\S]*near 'selct'"):
        run_sql(spark, published, "selct 1")
    with pytest.raises(
        SqlError, match=r"`embeddings_fod` cannot be found[\s\S]*functions: .*embeddings_food"
    ) as caught:
        run_sql(spark, published, "SELECT * FROM embeddings_fod")
    assert "JVM" not in str(caught.value)
    assert "Py4JJavaError" not in capfd.readouterr().err


def test_what_fails_on_the_way_says_what_to_write_instead(spark, deployment, capfd):
    ask = lambda query: fetch_arrow(run_sql(spark, deployment(), query))  # noqa: E731
    for query in ("SELECT 1/0", "SELECT 1/id FROM range(3)"):
        with pytest.raises(SqlError, match=r"the query fails: .*by zero.*try_divide") as caught:
            ask(query)
        assert query in str(caught.value)  # where in the query
        assert "\tat " not in str(caught.value)
    with pytest.raises(SqlError, match=r"'x'[\s\S]*try_cast"):
        ask("SELECT CAST(x AS INT) FROM VALUES ('x') AS t(x)")
    with pytest.raises(SqlError, match=r"not supported.*CAST\(\.\.\. AS STRING\)"):
        ask("SELECT INTERVAL '1' YEAR")
    with pytest.raises(SqlError, match=r"^the query fails: \[DELTA_CANNOT_CREATE_LOG_PATH\] .*/proc/x/_delta_log$"):
        ask("CREATE TABLE delta.`/proc/x` USING delta AS SELECT 1 AS one")
    with pytest.raises(SqlError, match=r"column 't' of the answer: .*CAST\(t AS STRING\)"):
        list(iterate_rows(ask("SELECT TIMESTAMP'+12000-01-01' AS t")))
    assert "Py4JJavaError" not in capfd.readouterr().err


def test_values_come_in_utc_wherever_the_machine_is(spark, deployment, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        [row] = iterate_rows(
            fetch_arrow(
                run_sql(
                    spark,
                    deployment(),
                    """
            SELECT TIMESTAMP'2025-03-01 20:00:00Z', TIMESTAMP_NTZ'2025-03-01 20:00:00', DATE'2025-03-01', 1.10BD,
                   INTERVAL '1' DAY, X'00ff', map('a', array(TIMESTAMP'2025-03-01 00:00:00Z')), NULL""",
                )
            )
        )
    finally:
        monkeypatch.undo()
        time.tzset()
    moment = datetime(2025, 3, 1, 20, tzinfo=UTC)
    assert row == (
        moment,
        moment.replace(tzinfo=None),
        date(2025, 3, 1),
        Decimal("1.10"),
        timedelta(days=1),
        b"\x00\xff",
        {"a": [moment.replace(hour=0)]},
        None,
    )
    assert row[0].utcoffset() == timedelta(0)


def test_two_columns_of_one_name(spark, deployment):
    answer = run_sql(spark, deployment(), "SELECT a.id, b.id FROM range(1) AS a, range(7, 8) AS b")
    assert list(iterate_rows(fetch_arrow(answer.limit(5)))) == [(0, 7)]
    with pytest.raises(SqlError, match=r"two columns of the answer are named 'id'.*alias"):
        iterate_objects(answer)
    assert list(iterate_objects(answer.toDF("id", "other_id"))) == [{"id": 0, "other_id": 7}]


@pytest.fixture
def metastore(spark, published, tmp_path):
    """Return a copy of the published deployment whose names are in a metastore, here that of the session."""
    copied = copy(published, tmp_path / "copy")
    content = yaml.safe_load(copied.path.read_text())
    content |= {"name": "kept", "spark": {**content["spark"], "metastore": "metastore"}}
    copied.path.write_text(yaml.safe_dump(content))
    spark.sql(f"CREATE DATABASE kept LOCATION '{tmp_path / 'kept.db'}'")
    yield Deployment.read(copied.path)
    spark.sql("USE default")
    spark.sql("DROP DATABASE IF EXISTS kept CASCADE")


def count(spark, deployment, query):
    [[number]] = run_sql(spark, deployment, query).collect()
    return number


def test_a_metastore_follows_a_lake_that_moved(spark, metastore, tmp_path):
    query = "SELECT count(*) FROM kept.user_embeddings"
    deltalake.write_deltalake(metastore.table("labels"), pa.table({"user_id": ["u01"]}))
    former = count(spark, metastore, query)
    assert count(spark, metastore, "SELECT count(*) FROM kept.labels") == 1
    spark.sql("CREATE TABLE kept.somebodys (n INT) USING delta")
    copied = Deployment.read(shutil.copytree(metastore.path.parent, tmp_path / "other") / metastore.path.name)
    for table in ("labels", "job_runs"):
        shutil.rmtree(copied.table(table))
    deltalake.DeltaTable(copied.table("user_embeddings")).delete("user_id = 'u01'")
    assert count(spark, copied, query) < former
    # A name that this lake lacks must not give the rows of the other one.
    for name in ("labels", "job_runs", "left_out"):
        with pytest.raises(SqlError, match="cannot be found"):
            run_sql(spark, copied, f"SELECT * FROM kept.{name}")
    assert count(spark, copied, "SELECT count(*) FROM kept.somebodys") == 0
    assert count(spark, metastore, query) == former


def test_a_metastore_forgets_a_scenario_and_makes_a_dropped_name_again(spark, metastore):
    run_sql(spark, metastore, "SELECT * FROM kept.embeddings_film")
    spark.sql("DROP TABLE kept.user_embeddings")
    assert count(spark, metastore, "SELECT count(*) FROM kept.latest_embeddings") > 0
    content = yaml.safe_load(metastore.path.read_text())
    metastore.path.write_text(yaml.safe_dump({**content, "scenarios": content["scenarios"][:1]}))
    with pytest.raises(SqlError, match=r"embeddings_film.*cannot be found"):
        run_sql(spark, Deployment.read(metastore.path), "SELECT * FROM kept.embeddings_film")


@pytest.mark.slow
def test_a_metastore_keeps_them_for_another_session(published, tmp_path):
    path = copy(published, tmp_path / "copy").path
    content = yaml.safe_load(path.read_text())
    content["spark"]["metastore"] = "metastore"
    path.write_text(yaml.safe_dump(content))
    read = (
        "from jobs.config.deployment import Deployment; from jobs.lake.session import get_session;"
        f"d = Deployment.read({str(path)!r});"
    )
    asks = (
        "rows = s.sql(\"SELECT user_id FROM shop.most_similar('u03', 'food', 3)\").collect();"
        "print('rows', [row[0] for row in rows]);"
    )

    def run(code: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", read + code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.splitlines()

    run("get_session(d).stop()")
    # This one registers nothing: what it finds, the first one has left.
    rows = run(
        "import jobs.lake.session; jobs.lake.session.register_views = lambda *_: (); s = get_session(d);"
        + asks
        + "print('tables', s.sql('SHOW TABLES IN shop').where('not isTemporary').count())"
    )
    assert rows == [f"rows {[name for name, _ in nearest('u03', 'food', 3)]}", "tables 9"]
    assert Deployment.read(path).spark.metastore == "metastore"
