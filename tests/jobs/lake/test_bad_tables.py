"""Tables that changed between days or are broken: a day that cannot be right is refused, with the table and the fix."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from jobs.config.deployment import Deployment
from jobs.lake import run_log
from jobs.lake.delta import open_path, open_table
from jobs.lake.handoff import MaintainHandoff
from jobs.lake.run_log import RunRecord
from jobs.lake.spark_tables import job_run
from jobs.operations.maintain import maintain
from jobs.profiles.assemble import AssembleResult, assemble
from tests.support.broken_tables import (
    TIME,
    Damage,
    a_file,
    bills,
    checkpointed,
    commit,
    halved,
    log_lost,
    of_other_types,
    parquet,
    protocol,
)
from tests.support.catalog import assert_columns
from tests.support.deployment import deploy
from tests.support.error_page import case, refused, row, says

DAY1, DAY2, DAY3 = date(2025, 3, 1), date(2025, 3, 2), date(2025, 3, 3)
TEMPLATE = "{merchant} {amount:amount_band}"
CHANGES = {
    "sources": [
        {"name": name, "table": name, "user": "client", "time": "paid_at", "id": "bill_id", "template": TEMPLATE}
        for name in ("bills", "refunds")
    ]
    + [{"name": "searches", "table": "searches", "time": "searched_at", "template": "{query}"}]
}
MERCHANTS = {"bills": ["Lu 0", "Lu 1", "Lu 2"], "refunds": ["7", "8", "9"]}


def write(deployment: Deployment, table: str, rows: pa.Table) -> None:
    deltalake.write_deltalake(deployment.table(table), rows, mode="overwrite", schema_mode="overwrite")


@pytest.fixture(scope="module")
def first(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, AssembleResult]:
    """A lake of two commits a table and an empty table, its first day assembled."""
    deployment = deploy(tmp_path_factory.mktemp("tables"), **CHANGES)
    for source in deployment.sources[:-1]:
        write(deployment, source.table, bills(2))
        write(deployment, source.table, bills(merchant=MERCHANTS[source.name]))
    write(
        deployment,
        "searches",
        pa.table(
            {
                "user_id": pa.array([], pa.string()),
                "searched_at": pa.array([], TIME),
                "query": pa.array([], pa.string()),
            }
        ),
    )
    return deployment, assemble(spark, deployment, DAY1)


@pytest.fixture
def shop(first: tuple[Deployment, AssembleResult], tmp_path: Path) -> Deployment:
    return copy(first[0], tmp_path / "shop")


def test_an_assembled_table_has_the_columns_of_the_catalog(
    first: tuple[Deployment, AssembleResult], spark: Any
) -> None:
    assert_columns(spark, first[0], "user_profiles")


def copy(deployment: Deployment, folder: Path) -> Deployment:
    shutil.copytree(deployment.path.parent, folder)
    return Deployment.read(folder / deployment.path.name)


def texts(deployment: Deployment, source: str, day: date) -> dict[str, list[str]]:
    """Each user's texts of a source, as the newest profiles at a day hold them."""
    result = open_path(deployment.table("user_profiles")).to_pyarrow_table().sort_by("day").to_pylist()
    return {one["user_id"]: [event["text"] for event in one[source]] for one in result if one["day"] <= day}


BEFORE = {name: {f"u{n}": [f"{merchants[n]} 5 to 10"] for n in range(3)} for name, merchants in MERCHANTS.items()}
"""The texts of the first day."""


@pytest.fixture(scope="module")
def changed(
    first: tuple[Deployment, AssembleResult], spark: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A second day on which every table has changed and holds the same, and a third on which all are empty."""
    deployment = copy(first[0], tmp_path_factory.mktemp("changed") / "shop")
    write(
        deployment,
        "bills",
        bills(
            colour=["red"] * 3,
            amount=["5.0", " 5 ", "5e0"],
            paid_at=["2025-02-20T09:00:00Z", "2025-02-20T17:01:00+08:00", "2025-02-20 09:02:00"],
        ).select(["colour", *bills().column_names[::-1]]),
    )
    write(deployment, "refunds", bills(merchant=[7, 8, 9], amount=pa.array([5, 5, 5], pa.decimal128(10, 2))))
    deltalake.DeltaTable(deployment.table("refunds")).create_checkpoint()
    Path(deployment.table("refunds"), "_delta_log", "_last_checkpoint").write_text("<html>")
    second = assemble(spark, deployment, DAY2)
    empty = {"client": pa.string(), "bill_id": pa.string(), "merchant": pa.string(), "amount": pa.float64()}
    for source in deployment.sources[:-1]:
        write(deployment, source.table, bills(0, **{name: pa.array([], kind) for name, kind in empty.items()}))
    return {"deployment": deployment, "first": first[1], "second": second, "third": assemble(spark, deployment, DAY3)}


@pytest.mark.parametrize(
    ("wrong", "source"),
    [
        case("a column that came", "bills", happens="used", said="Lu 0 5 to 10"),
        case("columns in another order", "bills", happens="used", said="Lu 0 5 to 10"),
        case("a number that became a text", "bills", happens="used", said="Lu 0 5 to 10"),
        case("a time that became a text", "bills", happens="used", said="Lu 0 5 to 10"),
        case("a text that became a number", "refunds", happens="used", said="7 5 to 10"),
        case("a number that became a decimal", "refunds", happens="used", said="7 5 to 10"),
        case("a pointer to the log's checkpoint that is garbage", "refunds", happens="used", said="7 5 to 10"),
    ],
)
def test_a_table_that_changed_and_still_fits_is_used(wrong: str, source: str, changed: dict[str, Any]) -> None:
    second = changed["second"]
    assert (second.accounts[source].used, second.changed) == (3, 0)  # the same hashes
    result = texts(changed["deployment"], source, DAY2)
    assert result == BEFORE[source]
    says(wrong, "used", result["u0"][0])


@pytest.mark.parametrize(
    ("wrong", "day"),
    [
        case("an empty table", "first", happens="used", said="users 3, changed 3, ended 0"),
        case("a day without a new row", "second", happens="used", said="users 3, changed 0, ended 0"),
        case("every table empty", "third", happens="used", said="users 0, changed 0, ended 3"),
    ],
)
def test_a_day_without_rows_is_a_day(wrong: str, day: str, changed: dict[str, Any]) -> None:
    done = changed[day]
    assert all(account.balanced for account in done.accounts.values())
    assert done.accounts["searches"].rows_in == 0
    says(wrong, "used", f"users {done.users}, changed {done.changed}, ended {done.deactivated}")


@pytest.mark.parametrize(
    ("wrong", "columns"),
    [
        case("a column that went", {"merchant": None}),
        case("an id that went", {"bill_id": None}, said="sources.bills.id = bill_id: table bills has no such column"),
        case("a user id that became a truth value", {"client": [True, False, True]}),
        case("a time that became a number", {"paid_at": [1, 2, 3]}),
        case("a text that became a list", {"merchant": [["a"], ["b"], ["c"]]}),
        case("an amount that became bytes", {"amount": [b"5", b"5", b"5"]}),
    ],
)
def test_a_table_that_changed_and_does_not_fit_is_refused(
    wrong: str, columns: dict[str, Any], spark: Any, shop: Deployment
) -> None:
    write(shop, "bills", bills(**columns))
    refuses(wrong, spark, shop)


def refuses(wrong: str, spark: Any, shop: Deployment) -> None:
    """The second day is refused, the first stays, and the run stands there as failed with the same words."""
    with refused(wrong):
        assemble(spark, shop, DAY2)
    assert texts(shop, "bills", DAY2) == BEFORE["bills"]
    [failed] = run_log.read_runs(shop, "assemble", first=DAY2)
    assert failed.status == "failed"
    says(wrong, "refused", failed.details["error"])


@pytest.mark.parametrize(
    ("wrong", "damage"),
    [
        case("a table that is not there", lambda shop: shutil.rmtree(shop.table("bills"))),
        case("a file for a table", a_file),
        case("Parquet files without a log", log_lost),
        # delta #2429, #4901
        case("a log without a commit", lambda shop: [file.unlink() for file in commit(shop).parent.iterdir()]),
        case("a commit that is not JSON", lambda shop: commit(shop).write_text("<html>")),
        case(
            "a commit that was copied by half",
            lambda shop: halved(commit(shop)),
            said="the file 00000000000000000001.json of the table at ...bills is broken",
        ),
        case("an empty commit", lambda shop: commit(shop).write_text("")),
        case(
            "a log without its first commit",
            lambda shop: commit(shop, 0).unlink(),
            said=(
                "the table at ...bills cannot be read (No table metadata or protocol found in "
                "delta log.); put its log, _delta_log, back from a copy, or write the table anew"
            ),
        ),
        case(
            "a log's checkpoint that was copied by half",
            lambda shop: halved(checkpointed(shop)),
            said=(
                "the table at ...bills cannot be read (Arrow error: Parquet error: Invalid "
                "Parquet file. Corrupt footer)"
            ),
        ),
        case(
            "a log's checkpoint that is lost",
            lambda shop: checkpointed(shop).unlink(),
            said="only a log, _delta_log, without its first commits; put it back from a copy, or write the table anew",
        ),
        case("a table of a later Delta", protocol(minReaderVersion=99, minWriterVersion=2)),
        case(
            "a table with a feature that Delta does not know",
            protocol(
                minReaderVersion=3, minWriterVersion=7, readerFeatures=["holograms"], writerFeatures=["holograms"]
            ),
            said="the table at ...bills cannot be read (Unsupported: Feature 'holograms' is not supported)",
        ),
        case("a Parquet file that is lost", lambda shop: parquet(shop).unlink()),
    ],
)
def test_a_broken_source_is_refused(wrong: str, damage: Damage, spark: Any, shop: Deployment) -> None:
    damage(shop)
    refuses(wrong, spark, shop)


@pytest.mark.parametrize(
    ("wrong", "damage"),
    [
        case("a Parquet file that was copied by half", lambda shop: halved(parquet(shop))),
        case(
            "an empty Parquet file",
            lambda shop: parquet(shop).write_bytes(b""),
            said="the file part-....parquet of the table at ...bills is broken",
        ),
        case(
            "a Parquet file that is a web page",
            lambda shop: parquet(shop).write_text("<html>" * 100),
            said="the file part-....parquet of the table at ...bills is broken",
        ),
        case(
            "a Parquet file of other types than the log says",
            of_other_types,
            said=(
                "the file part-....parquet of the table at ...bills is broken (Data type "
                "mismatches when reading Parquet column [amount]. Expected Spark type double, "
                "actual Parquet type BINARY)"
            ),
        ),
    ],
)
def test_a_broken_file_stops_the_job_that_reads_it(wrong: str, damage: Damage, spark: Any, shop: Deployment) -> None:
    damage(shop)
    with refused(wrong):
        read_in_a_job(spark, shop, "bills")


def read_in_a_job(spark: Any, deployment: Deployment, table: str) -> None:
    with job_run(spark, deployment, "assemble", DAY2) as run:
        run.read(table).collect()


@pytest.mark.parametrize(
    ("wrong", "table", "damage"),
    [
        case(
            "a record of runs whose log is not JSON",
            "job_runs",
            lambda table: next((table / "_delta_log").glob("*.json")).write_text("<html>"),
            said=(
                "the table at ...job_runs cannot be read (Json error: ...); put its log, "
                "_delta_log, back from a copy, or remove the table and run the jobs again, from "
                "the oldest day on"
            ),
        ),
        case(
            "a record of runs that has lost a file",
            "job_runs",
            lambda table: [file.unlink() for file in table.rglob("*.parquet")],
        ),
        case(
            "profiles that have lost a file",
            "user_profiles",
            lambda table: [file.unlink() for file in table.rglob("*.parquet")],
        ),
        case(
            "profiles whose log has an empty commit",
            "user_profiles",
            lambda table: next((table / "_delta_log").glob("*.json")).write_text(""),
            said="the table at ...user_profiles has an empty commit",
        ),
    ],
)
def test_a_broken_table_of_our_own_is_refused(
    wrong: str, table: str, damage: Callable[[Path], object], spark: Any, shop: Deployment
) -> None:
    damage(Path(shop.table(table)))
    with refused(wrong):
        read_in_a_job(spark, shop, table)


@row("profiles with an empty commit, to maintain", said="the table at ...user_profiles has an empty commit")
def test_a_broken_table_is_not_maintained(wrong: str, shop: Deployment) -> None:
    next(Path(shop.table("user_profiles"), "_delta_log").glob("*.json")).write_text("")
    with refused(wrong):
        maintain(session=no_session, deployment=shop, as_of=DAY2)


def no_session() -> Any:
    raise AssertionError("Spark is not needed where no row is dropped")


@row("a version that the day's last run read and the table has lost")
def test_a_day_cannot_be_repeated_on_a_version_that_is_gone(wrong: str, spark: Any, shop: Deployment) -> None:
    shutil.rmtree(shop.table("bills"))
    write(shop, "bills", bills())
    with refused(wrong):
        assemble(spark, shop, DAY1, source_versions=True)


@row(
    "a day that is to be repeated and was never run",
    said=(
        "no run of assemble for 2025-03-02 has noted the versions of bills, refunds, "
        "searches, so there is nothing to repeat; run it without --source-versions"
    ),
)
def test_a_day_that_was_never_run_cannot_be_repeated(wrong: str, spark: Any, shop: Deployment) -> None:
    with refused(wrong):
        assemble(spark, shop, DAY2, source_versions=True)


@row("a day that maintain has dropped rows of")
def test_a_day_before_what_is_kept_is_refused(wrong: str, spark: Any, shop: Deployment) -> None:
    with RunRecord.kept(shop, "maintain", DAY3) as run:
        run.handoff = MaintainHandoff(horizon=DAY2)
    with refused(wrong):
        assemble(spark, shop, DAY2)


@pytest.mark.parametrize(
    ("wrong", "table"),
    [case("a table that no job has made yet", "user_profiles"), case("labels that are not there", "labels")],
)
def test_a_table_that_is_not_there_is_named_with_its_job(wrong: str, table: str, deployment: Any) -> None:
    with refused(wrong):
        open_table(deployment(), table)


@row("a file for the lake")
def test_a_lake_that_is_a_file_is_refused(wrong: str, spark: Any, deployment: Any) -> None:
    shop = deployment()
    Path(shop.resolve(shop.lake)).write_text("a file")
    with refused(wrong):
        assemble(spark, shop, DAY1)
