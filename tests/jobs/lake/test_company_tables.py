"""Parquet files and views of Spark's catalogs: a second reader finds the same rows, or the table is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from jobs.lake.errors import TableError
from jobs.lake.spark_tables import JobRun, read_pinned, read_table
from tests.support.company_files import bills, write_parquet, write_text
from tests.support.error_page import case, refused

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


def read(spark, folder: Path, table: str = "./bills"):
    return read_table(spark, bills(folder, table=table, format="parquet"), table)


def rows(frame, *columns: str):
    return sorted((tuple(row) for row in frame.select(*columns).collect()), key=str)


PARTITIONS = [
    # SPARK-34314, apache/spark #8026, iceberg #6779
    ("leading zeros stay", ["007", "7", "0007"]),
    ("decimals stay", ["1.0", "1", "1e0"]),
    ("days stay texts", ["2025-01-01", "2025-1-1"]),
    ("numbers beside words", ["12", "twelve"]),
    # delta-rs #3577, polars #23367
    ("letters that a URL escapes", ["a%2Fb", "a%20b", "50%25"]),
    ("other letters", ["Müller", "用户"]),
    ("truth values", ["true", "TRUE"]),
    ("no value", ["__HIVE_DEFAULT_PARTITION__", "x"]),
]


@pytest.mark.parametrize("folders", [pytest.param(folders, id=name) for name, folders in PARTITIONS])
def test_folders_of_partitions_keep_their_texts(spark, tmp_path, folders):
    from urllib.parse import unquote

    for number, folder in enumerate(folders):
        write_parquet(tmp_path / "bills" / f"user_id={folder}" / "a.parquet", amount=[number])
    names = {"__HIVE_DEFAULT_PARTITION__": None}
    expected = [(names.get(folder, unquote(folder)), number) for number, folder in enumerate(folders)]
    assert rows(read(spark, tmp_path), "user_id", "amount") == sorted(expected, key=str)


def test_files_with_other_columns_are_read_whole(spark, tmp_path):
    write_parquet(tmp_path / "bills" / "1.parquet", user_id=["1"], amount=[1])
    write_parquet(tmp_path / "bills" / "2.parquet", user_id=["2"], merchant=["tea"])
    write_parquet(tmp_path / "bills" / "3.parquet", merchant=["bus"], user_id=["3"], amount=[3])
    second = pa.concat_tables(
        [pq.read_table(file) for file in sorted((tmp_path / "bills").iterdir())], promote_options="default"
    )
    assert rows(read(spark, tmp_path), *second.column_names) == sorted(
        map(tuple, zip(*second.to_pydict().values(), strict=True)), key=str
    )


def test_hidden_files_are_no_rows_and_one_file_is_a_table(spark, tmp_path):
    write_parquet(tmp_path / "bills" / "a.parquet", user_id=["1"])
    for hidden in ("_b.parquet", ".c.parquet", "_temporary/0/d.parquet"):
        write_parquet(tmp_path / "bills" / hidden, user_id=["2"])
    write_text(tmp_path / "bills" / "_SUCCESS", "")
    assert rows(read(spark, tmp_path), "user_id") == [("1",)]
    assert rows(read(spark, tmp_path, "./bills/a.parquet"), "user_id") == [("1",)]


def test_characters_of_patterns_are_plain_in_a_path(spark, tmp_path):
    write_parquet(tmp_path / "bills [a]{b}*" / "a.parquet", user_id=["1"])
    write_parquet(tmp_path / "bills ab" / "a.parquet", user_id=["2"])
    assert rows(read(spark, tmp_path, "./bills [a]{b}*"), "user_id") == [("1",)]


def test_a_stream_that_wrote_the_files_says_which_count(spark, tmp_path):
    write_parquet(tmp_path / "in" / "a.parquet", user_id=["1"])
    stream = spark.readStream.schema("user_id string").parquet(str(tmp_path / "in")).writeStream.format("parquet")
    stream.option("checkpointLocation", str(tmp_path / "checkpoint")).trigger(availableNow=True).start(
        str(tmp_path / "bills")
    ).awaitTermination()
    write_parquet(tmp_path / "bills" / "part-killed.parquet", user_id=["of a killed task"])
    assert rows(read(spark, tmp_path), "user_id") == [("1",)]


def test_times_of_parquet_files_are_moments_or_local(spark, tmp_path):
    at = [datetime(2025, 1, 1, 12)]
    write_parquet(
        tmp_path / "bills" / "a.parquet",
        utc=pa.array(at, pa.timestamp("us", "UTC")),
        zone=pa.array(at, pa.timestamp("ms", "Asia/Shanghai")),
        local=pa.array(at, pa.timestamp("us")),
    )
    pq.write_table(
        pa.table({"old": pa.array(at, pa.timestamp("ns"))}),
        tmp_path / "int96.parquet",
        use_deprecated_int96_timestamps=True,
    )
    assert read(spark, tmp_path).schema.simpleString() == "struct<utc:timestamp,zone:timestamp,local:timestamp_ntz>"
    assert read(spark, tmp_path, "./int96.parquet").select(F.unix_seconds("old")).collect()[0][0] == NOON.timestamp()


def make_other_types(folder: Path) -> None:
    write_parquet(folder / "1.parquet", user_id=pa.array([1], pa.int32()))
    write_parquet(folder / "2.parquet", user_id=["1"])


def make_wider(folder: Path) -> None:
    write_parquet(folder / "1.parquet", user_id=pa.array([1], pa.int32()))
    write_parquet(folder / "2.parquet", user_id=pa.array([1], pa.int64()))


def make_case(folder: Path) -> None:
    write_parquet(folder / "1.parquet", user_id=["1"], User_Id=["2"])


def make_nanoseconds(folder: Path) -> None:
    write_parquet(folder / "1.parquet", user_id=["1"], paid_at=pa.array([1], pa.timestamp("ns")))


def make_mixed(folder: Path) -> None:
    write_parquet(folder / "1.parquet", user_id=["1"])
    write_parquet(folder / "dt=2025-01-01" / "2.parquet", user_id=["2"])


def make_folders(folder: Path) -> None:
    write_parquet(folder / "1.parquet", user_id=["1"])
    write_parquet(folder / "archive" / "2.parquet", user_id=["2"])


def make_levels(folder: Path) -> None:
    write_parquet(folder / "dt=1" / "1.parquet", user_id=["1"])
    write_parquet(folder / "dt=2" / "hour=3" / "2.parquet", user_id=["2"])


def make_half_partitioned(folder: Path) -> None:
    write_parquet(folder / "dt=1" / "shop=a" / "1.parquet", user_id=["1"])
    write_parquet(folder / "dt=1" / "2.parquet", user_id=["2"])


def make_empty(folder: Path) -> None:
    folder.mkdir()


def make_readme(folder: Path) -> None:
    write_parquet(folder / "1.parquet", user_id=["1"])
    write_text(folder / "README.txt", "about these files")


def make_half(folder: Path) -> None:
    write_parquet(folder / "1.parquet", user_id=["1"])
    write_text(folder / "2.parquet", (folder / "1.parquet").read_bytes()[:-20])


def make_delta(folder: Path) -> None:
    write_parquet(folder / "1.parquet", user_id=["1"])
    write_text(folder / "_delta_log" / "00000000000000000000.json", "{}")


def make_hudi(folder: Path) -> None:
    write_parquet(folder / "1.parquet", user_id=["1"])
    write_text(folder / ".hoodie" / "hoodie.properties", "")


def make_hudi_partition(folder: Path) -> None:
    write_parquet(folder / "1.parquet", user_id=["1"])
    write_text(folder / ".hoodie_partition_metadata", "commitTime=20250101000000000\npartitionDepth=1\n")


def make_paimon(folder: Path) -> None:
    write_parquet(folder / "bucket-0" / "data-0.parquet", user_id=["1"])
    write_text(folder / "schema" / "schema-0", "{}")
    write_text(folder / "snapshot" / "snapshot-1", "{}")


def make_iceberg(folder: Path) -> None:
    write_parquet(folder / "data" / "1.parquet", user_id=["1"])
    write_text(folder / "metadata" / "v1.metadata.json", "{}")


def make_inside(sign: str) -> Callable[[Path], None]:
    """Return a function that makes a folder inside a table, whose log is beside it."""

    def make(folder: Path) -> None:
        write_parquet(folder / "1.parquet", user_id=["replaced", "present"])
        if sign.startswith("_delta_log"):
            deltalake.write_deltalake(str(folder.parent), pa.table({"user_id": ["present"]}))
        else:
            write_text(folder.parent / sign, "{}")

    return make


INSIDE = [
    ("_delta_log/00000000000000000000.json", "is a folder of the Delta table"),
    (".hoodie/hoodie.properties", "is a folder of the Apache Hudi table at"),
    ("metadata/v1.metadata.json", "is a folder of the Apache Iceberg table at"),
]


@pytest.mark.parametrize(("sign", "said"), INSIDE, ids=["Delta", "Hudi", "Iceberg"])
@pytest.mark.parametrize("keys", [{"format": "parquet"}, {}], ids=["as Parquet", "as Delta"])
def test_a_folder_inside_a_table_is_not_read_without_its_log(spark, tmp_path, sign, said, keys):
    d = bills(tmp_path, table="./table/day=1", **keys)
    make_inside(sign)(tmp_path / "table" / "day=1")
    with pytest.raises(TableError) as error:
        read_table(spark, d, "./table/day=1")
    if keys:
        assert said in str(error.value)
    assert "format: parquet" not in str(error.value)
    assert "back from a copy" not in str(error.value)


REFUSED = [
    case("Parquet files that are not there", lambda folder: None),
    case("a folder without a Parquet file", make_empty),
    case("Parquet files of other types", make_other_types),
    case(
        "Parquet files with a wider type", make_wider, said="[CANNOT_MERGE_SCHEMAS] ... write all files with one type"
    ),
    case("a Parquet file with two columns that differ in case", make_case),
    case("a Parquet file with nanoseconds", make_nanoseconds),
    case("Parquet files beside folders of partitions", make_mixed),
    case(
        "Parquet files in a folder that is no partition",
        make_folders,
        said="Spark would leave out 1 of 2 files, such as ...bills/archive/2.parquet",
    ),
    case(
        "folders of partitions with other columns",
        make_levels,
        said="Spark would leave out 1 of 2 files, such as ...bills/dt=2/hour=3/2.parquet",
    ),
    case(
        "a file above the last folder of partitions",
        make_half_partitioned,
        said="Spark would leave out 1 of 2 files, such as ...bills/dt=1/shop=a/1.parquet",
    ),
    case("a file among Parquet files that is none", make_readme),
    case(
        "a Parquet file that ends early", make_half, said="2.parquet ... remove this file, or put it back from a copy"
    ),
    case("a Delta table that is declared as Parquet", make_delta),
    case("a Hudi table that is declared as Parquet", make_hudi),
    case(
        "a partition of a Hudi table that is declared as Parquet",
        make_hudi_partition,
        said="...bills is an Apache Hudi table, whose files also hold replaced rows",
    ),
    case("a Paimon table that is declared as Parquet", make_paimon),
    case("an Iceberg table that is declared as Parquet", make_iceberg),
]


@pytest.mark.parametrize(("wrong", "make"), REFUSED)
def test_files_that_would_give_other_rows_are_refused(spark, tmp_path, wrong, make):
    make(tmp_path / "bills")
    with refused(wrong):
        read(spark, tmp_path)


@pytest.fixture(scope="module")
def view(spark, tmp_path_factory):
    """A deployment whose bills are a view of a catalog, and the path of the Delta table below it."""
    folder = tmp_path_factory.mktemp("catalog")
    path = str(folder / "under")
    spark.createDataFrame(
        [("1", date(2025, 1, 1), "tea", 1.0)], "user_id string, day date, shop string, cents double"
    ).write.format("delta").save(path)
    spark.sql(f"CREATE DATABASE sales LOCATION '{folder}/sales'")
    spark.sql(
        "CREATE OR REPLACE VIEW sales.bill_view AS SELECT user_id, CAST(day AS TIMESTAMP) AS paid_at, "
        f"shop AS merchant, cents / 100 AS amount FROM delta.`{path}`"
    )
    spark.sql(f"CREATE TABLE IF NOT EXISTS sales.bills USING delta LOCATION '{path}'")
    spark.sql(f"CREATE TABLE IF NOT EXISTS sales.odd USING parquet LOCATION '{folder}/odd' AS SELECT '7' AS user_id")
    yield folder
    spark.sql("DROP DATABASE sales CASCADE")


@pytest.mark.parametrize(
    "name", ["sales.bill_view", "spark_catalog.sales.bill_view", "spark_catalog.`sales`.bill_view"]
)
def test_a_view_is_read_and_has_no_version(spark, view, name):
    versions: dict[str, int] = {}
    frame = read_pinned(spark, bills(view, table=name), name, versions)
    assert rows(frame, "user_id", "merchant", "amount") == [("1", "tea", 0.01)]
    assert versions == {}


def test_a_delta_table_of_a_catalog_is_read_at_its_version(spark, view):
    deployment, versions = bills(view, table="sales.bills"), {}
    assert read_pinned(spark, deployment, "sales.bills", versions).count() == 1
    assert versions == {"sales.bills": 0}
    spark.sql("INSERT INTO sales.bills VALUES ('2', DATE'2025-01-02', 'bus', 2.0)")
    assert read_pinned(spark, deployment, "sales.bills", versions).count() == 1
    assert read_table(spark, deployment, "sales.bills").count() == 2
    spark.sql("RESTORE TABLE sales.bills TO VERSION AS OF 0")


NAMES = [
    case("a name that no catalog has", "sales.nothing"),
    case(
        "a name of a schema that is not there",
        "nowhere.bills",
        said="`nowhere`.`bills` cannot be read from Spark's catalogs",
    ),
    case("a name of a catalog that is not there", "unity.sales.bills"),
    case("a file's name without ./", "bills.csv"),
]


@pytest.mark.parametrize(("wrong", "name"), NAMES)
def test_a_name_that_no_catalog_can_read_is_refused(spark, view, wrong, name):
    with refused(wrong):
        read_table(spark, bills(view, table=name), name)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"table": "./odd", "format": "parquet"}, "files of format parquet have none"),
        ({"table": "./x.csv", "format": "csv", "schema": "user_id STRING"}, "files of format csv have none"),
        ({"table": "sales.bill_view"}, "a view, or a catalog's table that is not Delta, has none"),
        ({"table": "sales.odd"}, "a view, or a catalog's table that is not Delta, has none"),
    ],
)
def test_versions_of_a_table_without_any_are_refused_by_name(spark, view, keys, why):
    deployment = bills(view, **keys)
    run = JobRun(deployment=deployment, job="assemble", as_of=date(2025, 1, 1), spark=spark)
    with pytest.raises(TableError) as caught:
        run.pin(deployment.source_tables)
    assert str(caught.value) == (
        f"{keys['table']} cannot be read at an earlier version: {why}; run assemble without --source-versions"
    )
