"""What `table`, `format` and `timezone` may be, and environment variables in every location."""

from __future__ import annotations

import pytest

from jobs.config.location import expand_variables, quote_catalog_name
from tests.support.company_files import BILL, bills
from tests.support.deployment import deploy
from tests.support.error_page import case, refused

CSV = {"format": "csv", "schema": "user_id STRING"}


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ("bills", "lake/bills"),
        ("./bills", "bills"),
        ("raw/bills", "raw/bills"),
        ("../bills", "../bills"),
        ("/data/bills", "/data/bills"),
        ("$RAW/bills", "/mnt/raw/bills"),
        ("${RAW}/$DAY", "/mnt/raw/2025"),
        ("$RELATIVE/bills", "in/bills"),
        ("$NAME", "lake/bills"),
        ("./cost$$s/5$/bills", "cost$s/5$/bills"),
        ("s3a://$BUCKET/bills", "s3a://company/bills"),
        ("sales.bills", "`sales`.`bills`"),
        ("unity.`my-sales`.bills", "`unity`.`my-sales`.`bills`"),
        ("$CATALOG.sales.bills", "`unity`.`sales`.`bills`"),
    ],
)
def test_a_table_is_where_the_rule_says(tmp_path, monkeypatch, table, path):
    values = {
        "RAW": "/mnt/raw",
        "DAY": "2025",
        "RELATIVE": "in",
        "NAME": "bills",
        "BUCKET": "company",
        "CATALOG": "unity",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    deployment = bills(tmp_path, table=table)
    expected = path if path.startswith(("s3a:", "`")) else str((tmp_path / path).resolve())
    assert deployment.table(deployment.sources[0].table) == expected


def test_variables_work_in_every_location_and_in_no_hash(tmp_path, monkeypatch):
    def read(home):
        monkeypatch.setenv("HOME_OF_ALL", str(home))
        scenario = {"name": "food", "instruction": "Predict.", "labels": "$HOME_OF_ALL/labels"}
        return deploy(
            tmp_path,
            lake="$HOME_OF_ALL/lake",
            releases="${HOME_OF_ALL}/releases",
            sources=[{**BILL, "table": "$HOME_OF_ALL/bills", "id": "bill_id"}],
            attributes={"table": "$HOME_OF_ALL/people", "static": True, "numbers": ["age"]},
            scenarios=[scenario],
            userqa={"questions": "$HOME_OF_ALL/questions.yaml", "as_of": ["2025-01-01"]},
            spark={"metastore": "$HOME_OF_ALL/warehouse"},
            store={"folder": "$HOME_OF_ALL/store"},
        )

    one, other = read(tmp_path / "one"), read(tmp_path / "other")
    assert one.vector_spec() == other.vector_spec()
    locations = [one.lake, one.releases, one.userqa.questions, one.spark.metastore, one.store.folder]
    locations += [table.table for _, table in one.company_tables]
    assert {location.rpartition("/")[0] for location in locations} == {str(tmp_path / "one")}
    assert str(tmp_path) not in one.path.read_text(encoding="utf-8")


WRONG = [
    case("a variable that the environment lacks", {"lake": "$NO_SUCH_LAKE/x"}),
    case("a variable that is empty", {"releases": "$EMPTY/x"}),
    case(
        "a default for a variable",
        {"releases": "${NO_SUCH_LAKE:-/data}"},
        said="releases = '${NO_SUCH_LAKE:-/data}': ${NO_SUCH_LAKE:-/data} is not the name of a variable; write ${NAME}",
    ),
    case("a home folder as a tilde", {"lake": "~/lake"}),
    case(
        "a catalog's name with an empty part",
        {"table": "sales..bills"},
        said="is neither a path nor `catalog.schema.table`",
    ),
    case("a folder as a dot", {"table": "."}, said="is neither a path nor `catalog.schema.table`; write ./"),
    case(
        "a format that is none",
        {"format": "avro"},
        said="sources[0].format = 'avro': Input should be 'delta', 'parquet'",
    ),
    case("a CSV file without a schema", {"format": "csv"}),
    case("a schema of a Delta table", {"schema": "a INT"}, said="`schema` and `options` are for format csv"),
    case(
        "an option that changes what a row means",
        {**CSV, "options": {"mode": "DROPMALFORMED"}},
        said="sources[0].options.mode...: no option of a CSV file; use one of comment, delimiter, encoding",
    ),
    case("an encoding whose line breaks have two bytes", {**CSV, "options": {"encoding": "UTF-16"}}),
    case("line breaks within the values of a CSV file", {**CSV, "options": {"multiLine": True}}),
    case("a format of a catalog's table", {"table": "sales.bills", **CSV}),
    case("an Iceberg table that is declared", {"format": "iceberg"}),
    case("a time zone that is an abbreviation", {"timezone": "CST"}),
    case("a time zone that is misspelt", {"timezone": "Asia/Shangai"}, said="did you mean Asia/Shanghai?"),
    case("a time zone that is an offset", {"timezone": "+08:00"}, said="write UTC or a region, such as Asia/Shanghai"),
    case("one table in two formats", {"attributes": {"table": "bills", "static": True, "numbers": ["age"], **CSV}}),
]


@pytest.mark.parametrize(("wrong", "keys"), WRONG)
def test_other_values_are_refused_with_the_key(tmp_path, monkeypatch, wrong, keys):
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NO_SUCH_LAKE", raising=False)
    sections = {key: keys[key] for key in ("lake", "releases", "attributes") if key in keys}
    source = {**BILL, "id": "bill_id", **{key: value for key, value in keys.items() if key not in sections}}
    with refused(wrong):
        deploy(tmp_path, sources=[source], **sections)


def test_a_declared_zone_belongs_to_the_vectors(tmp_path):
    plain, declared = bills(tmp_path), bills(tmp_path, timezone="Asia/Shanghai")
    assert "timezone" not in plain.vector_spec()["sources"][0]
    assert declared.vector_spec()["sources"][0]["timezone"] == "Asia/Shanghai"


def test_labels_are_a_name_or_a_mapping(tmp_path):
    scenario = {"name": "food", "instruction": "Predict."}
    one = deploy(tmp_path, scenarios=[{**scenario, "labels": "labels"}])
    other = deploy(tmp_path, scenarios=[{**scenario, "labels": {"table": "labels"}}])
    assert one.scenarios == other.scenarios


def test_quotes_of_names_stay_and_variables_are_replaced_once(monkeypatch):
    assert quote_catalog_name("a.`b.c`.d e") == "`a`.`b.c`.`d e`"
    monkeypatch.setenv("OUTER", "$INNER")
    assert expand_variables("/x/$OUTER/$$OUTER") == "/x/$INNER/$OUTER"
