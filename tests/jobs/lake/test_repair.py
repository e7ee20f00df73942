"""Advice about damaged tables and other folders: each piece is followed, and the table then reads right."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from jobs.config.deployment import Deployment
from jobs.lake.delta import absent_message, open_path, read_rows
from jobs.lake.errors import TableError
from jobs.lake.spark_tables import read_table
from jobs.serving.lookup import Lookup, LookupResult
from jobs.serving.publish import publish
from tests.support import embedded
from tests.support.commands import follow
from tests.support.deployment import DEPLOYMENT, deploy
from tests.support.error_page import case, refused, row

LOG = "_delta_log"


@pytest.fixture
def bills(tmp_path: Path) -> Path:
    """A table of four commits, with a row each."""
    path = tmp_path / "bills"
    for number in range(4):
        deltalake.write_deltalake(str(path), pa.table({"n": [number]}), mode="append")
    return path


def commit(table: Path, number: int) -> Path:
    return table / LOG / f"{number:020}.json"


def checkpoint(table: Path) -> Path:
    deltalake.DeltaTable(str(table)).create_checkpoint()
    [file] = (table / LOG).glob("*.checkpoint.parquet")
    return file


def numbers(table: Path) -> list[int]:
    return sorted(read_rows(open_path(str(table)))["n"].to_pylist())


def require_sound(spark: Any, table: Path, rows: list[int]) -> None:
    """Assert that both readers read these rows."""
    assert numbers(table) == rows
    assert sorted(row.n for row in spark.read.format("delta").load(str(table)).collect()) == rows


@pytest.mark.parametrize("lost", [1, 3, 4], ids=["one", "all but the last", "all"])
# delta #341
def test_a_log_whose_first_commits_were_cleaned_up_is_sound(lost: int, bills: Path) -> None:
    checkpoint(bills)
    for number in range(lost):
        commit(bills, number).unlink()
    assert numbers(bills) == [0, 1, 2, 3]


# trino #22748, delta-rs #2258
@pytest.mark.parametrize("hint", ["<html>", "", None], ids=["no JSON", "empty", "lost"])
def test_a_broken_hint_at_the_last_checkpoint_does_not_matter(hint: str | None, bills: Path) -> None:
    checkpoint(bills)
    commit(bills, 0).unlink()
    file = bills / LOG / "_last_checkpoint"
    file.unlink()
    if hint is not None:
        file.write_text(hint)
    assert numbers(bills) == [0, 1, 2, 3]


# delta-kernel-rs #582, delta #6495
@row("a hint at a checkpoint that is gone")
def test_a_wrong_hint_is_removed(wrong: str, spark: Any, bills: Path) -> None:
    checkpoint(bills)
    hint = bills / LOG / "_last_checkpoint"
    hint.write_text(json.dumps({"version": 99, "size": 1}))
    with refused(wrong):
        open_path(str(bills))
    hint.unlink()
    require_sound(spark, bills, [0, 1, 2, 3])


# delta #5458
@row("a broken checkpoint beside all commits")
def test_a_broken_checkpoint_is_removed(wrong: str, spark: Any, bills: Path) -> None:
    file = checkpoint(bills)
    file.write_bytes(file.read_bytes()[:100])
    with refused(wrong):
        open_path(str(bills))
    for part in [*(bills / LOG).glob("*.checkpoint*"), bills / LOG / "_last_checkpoint"]:
        part.unlink()
    require_sound(spark, bills, [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda table: commit(table, 2).unlink(), "gap"),
        (lambda table: commit(table, 0).unlink(), "No table metadata or protocol"),
        (lambda table: commit(table, 3).write_text("<html>"), "Json error|is broken"),
        (lambda table: commit(table, 3).write_text(""), "empty commit"),
        (lambda table: (checkpoint(table).write_bytes(b"PAR1"), commit(table, 0).unlink()), "Arrow error"),
    ],
    ids=["a gap", "no first commit", "a web page", "an empty commit", "a broken checkpoint without commits"],
)
def test_a_damaged_log_is_put_back(damage: Callable[[Path], object], reason: str, bills: Path) -> None:
    copy = shutil.copytree(bills / LOG, bills.parent / "copy")
    damage(bills)
    with pytest.raises(TableError, match=f"(?:{reason}).*; put its log, _delta_log, back from a copy, or write"):
        open_path(str(bills))
    shutil.rmtree(bills / LOG)
    shutil.copytree(copy, bills / LOG)
    assert numbers(bills) == [0, 1, 2, 3]


@contextmanager
def another_user(closed: Path) -> Iterator[None]:
    """Act as a user who may not read a file or folder."""
    mode = closed.stat().st_mode
    closed.chmod(0)
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        closed.chmod(mode)


@pytest.mark.parametrize("closed", [f"{LOG}/{3:020}.json", LOG, "."])
@row("a table that this user may not read")
def test_a_table_of_another_user_is_not_called_broken(wrong: str, closed: str, bills: Path) -> None:
    for folder in (bills.parent, bills.parent.parent, bills.parent.parent.parent):
        folder.chmod(0o755)
    with another_user(bills / closed), refused(wrong) as refusal:
        open_path(str(bills))
    assert "copy" not in str(refusal.value)
    assert numbers(bills) == [0, 1, 2, 3]


# delta #2153
def test_a_lost_file_is_restored_from_the_version_before_it(spark: Any, deployment: Any, bills: Path) -> None:
    files = {row["path"]: row["version"] for row in added(bills)}
    file = next(name for name, version in files.items() if version == 3)
    (bills / file).unlink()
    with pytest.raises(TableError, match=f"{file} .* is lost; .* without all later changes: ") as refusal:
        read_rows(open_path(str(bills)))
    follow(spark, deployment(), refusal.value)
    require_sound(spark, bills, [0, 1, 2])


def test_a_lost_file_of_the_first_version_can_only_be_put_back(bills: Path) -> None:
    file = next(row["path"] for row in added(bills) if row["version"] == 0)
    content = (bills / file).read_bytes()
    (bills / file).unlink()
    with pytest.raises(TableError, match=r"is lost; put it back from a copy$"):
        read_rows(open_path(str(bills)))
    (bills / file).write_bytes(content)
    assert numbers(bills) == [0, 1, 2, 3]


def added(table: Path) -> list[dict[str, Any]]:
    """The files that each version added."""
    return [
        {"path": json.loads(line)["add"]["path"], "version": number}
        for number in range(4)
        for line in commit(table, number).read_text().splitlines()
        if line.startswith('{"add"')
    ]


def written(name: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")

    return write


@pytest.mark.parametrize(
    ("wrong", "make"),
    [
        # hudi #5777, #8703
        case("a Hudi table", lambda bills: (written(".hoodie/hoodie.properties")(bills), written("a.parquet")(bills))),
        case(
            "a partition of a Hudi table",
            written(".hoodie_partition_metadata"),
            said="bills, only an Apache Hudi table, whose files also hold replaced rows",
        ),
        case("an Iceberg table", written("metadata/v1.metadata.json")),
        case(
            "a Paimon table",
            lambda bills: [
                written(name)(bills) for name in ("schema/schema-0", "snapshot/snapshot-1", "bucket-0/a.orc")
            ],
            said="bills, only an Apache Paimon table, whose files also hold replaced rows; write its present rows to a",
        ),
        case(
            "a bucket of a Paimon table",
            lambda bills: [written(f"../{name}")(bills) for name in ("schema/schema-0", "snapshot/snapshot-1")],
            said="bills, only a folder of the Apache Paimon table at ...lake, whose files also hold replaced rows",
        ),
        case("a write that did not finish", written("_temporary/0/task/part-0.parquet")),
        case("an empty folder", lambda bills: bills.mkdir(), said="bills, only an empty folder; create it or name"),
        case(
            "a folder with nothing but a marker",
            written("_SUCCESS"),
            said="only an empty folder; create it or name another",
        ),
        case("CSV files", written("2025/bills.csv"), said="only CSV files; add `format: csv` and `schema` to a table"),
        case("ORC files", written("part-0.orc"), said="only files of ORC, which no job reads; write their rows to a"),
        case("Avro files", written("part-0.avro"), said="only files of Avro, which no job reads; write their rows"),
        case("JSON files", written("part-0.json"), said="only files of JSON, which no job reads; write their rows"),
        case("files of no known format", written("bills.xlsx"), said="only files of another format; create it or name"),
        case(
            "a folder of Delta tables",
            lambda bills: [written(f"{name}/{LOG}/{0:020}.json")(bills) for name in "ab"],
            said="only a folder of Delta tables: a, b; name one of them",
        ),
        # delta #804
        case("a folder of a Delta table", written(f"../{LOG}/{0:020}.json")),
    ],
)
def test_a_folder_of_something_else_is_recognised(wrong: str, make: Callable[[Path], object], tmp_path: Path) -> None:
    bills = tmp_path / "lake" / "bills"
    bills.parent.mkdir()
    make(bills)
    bills.mkdir(exist_ok=True)
    with refused(wrong):
        raise TableError(absent_message(str(bills)))
    assert "CONVERT" not in absent_message(str(bills))


# delta-rs #2626: partitioned files that a conversion refuses
@pytest.mark.parametrize("partitioned", [False, True])
def test_plain_parquet_is_read_with_its_format(partitioned: bool, spark: Any, deployment: Any) -> None:
    shop = deployment()
    path = shop.table("bills")
    rows = spark.sql("SELECT id AS n, id % 2 AS part FROM range(4)")
    rows.write.partitionBy(*["part"] * partitioned).parquet(path)
    assert "add `format: parquet`" in absent_message(path)
    source = {**DEPLOYMENT["sources"][0], "format": "parquet"}
    shop = deployment(sources=[source])
    assert sorted(row.n for row in read_table(spark, shop, "bills").collect()) == [0, 1, 2, 3]


def test_a_streaming_sink_is_read_with_its_format(spark: Any, deployment: Any, tmp_path: Path) -> None:
    shop = deployment(sources=[{**DEPLOYMENT["sources"][0], "format": "parquet"}])
    path = shop.table("bills")
    stream = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 3).load().selectExpr("value AS n")
    query = stream.writeStream.trigger(once=True).option("checkpointLocation", f"{tmp_path}/checkpoint")
    query.format("parquet").start(path).awaitTermination()
    committed = sorted(row.n for row in spark.read.parquet(path).collect())
    # A batch that did not finish: its file is there and does not count.
    file = next(Path(path).glob("*.parquet"))
    shutil.copy(file, file.with_name("part-unfinished.parquet"))
    assert sorted(row.n for row in read_table(spark, shop, "bills").collect()) == committed


@pytest.mark.slow
def test_tables_of_the_lake_are_made_again_as_the_advice_says(
    spark: Any, published: Deployment, tmp_path: Path
) -> None:
    shop = embedded.copy(published, tmp_path / "shop")
    users = list(embedded.USERS)
    before = [vectors(result) for result in Lookup(shop, freeze=False)(users)]
    tables = {
        "job_runs": "remove the table and run the jobs again, from the oldest day on",
        "user_vectors": "remove the table and run `instructue publish` for each of its days",
        "online_users": "remove the table, name another store.project and run `instructue publish` for the newest day",
    }
    for table, advice in tables.items():
        path = Path(shop.table(table))
        for commit in (path / LOG).glob("*.json"):
            commit.write_text("<html>")
        with pytest.raises(TableError, match=re.escape(f"back from a copy, or {advice}")):
            open_path(str(path))
        shutil.rmtree(path)
    shop = deploy(tmp_path / "shop", store={"folder": "store", "project": "second"}, **embedded.CHANGES)
    for day, rows in embedded.DAYS.items():
        embedded.embed(spark, shop, day, rows)
        publish(spark, shop, day)
    assert [vectors(result) for result in Lookup(shop, freeze=False)(users)] == before


def vectors(result: LookupResult) -> dict[str, list[float]]:
    return {scenario: one.vector.tolist() for scenario, one in result.vectors.items()}
