"""CSV files: every line is a row or is refused with a reason, and a second reader finds the same values."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from datetime import UTC, date, datetime

import pytest
from pyspark.sql import functions as F

from jobs.lake.csv_rows import MALFORMED
from jobs.lake.errors import TableError
from jobs.lake.spark_tables import read_table
from tests.support.company_files import bills, write_text
from tests.support.error_page import case, row, says

SCHEMA = "user_id STRING, paid_at TIMESTAMP, merchant STRING, amount DOUBLE, items INT, day DATE, paid BOOLEAN"
HEADER = "user_id,paid_at,merchant,amount,items,day,paid\n"
GOOD = (
    "007,2025-01-01 12:00:00,tea,9.5,2,2025-01-01,true\n"
    "7,2025-01-01T20:00:00+08:00,Müller & Söhne,-1e3,0,2024-02-29,false\n"
    '8,2025-01-01,"he said ""hi"", twice",.5,,,\n'
    '9,2025-01-01 23:59:59.999999,"a,b;c",0,+3,2025-1-2,TRUE\n'
    "10,,,,,,\n"
)
BAD = [
    case("a line with too few fields", "1,2025-01-01,tea,1,1,2025-01-01", happens="rejected"),
    case("a line with too many fields", "1,2025-01-01,tea,1,1,2025-01-01,true,more", happens="rejected"),
    case(
        "a line cut off within quotes",
        '1,2025-01-01,"tea,1,1,2025-01-01,true',
        happens="rejected",
        said="line does not have the fields of the schema",
    ),
    case("a number in words in a CSV file", "1,2025-01-01,tea,nine,1,2025-01-01,true", happens="rejected"),
    case(
        "a decimal comma in a CSV file",
        '1,2025-01-01,tea,"1,5",1,2025-01-01,true',
        happens="rejected",
        said="amount is not double",
    ),
    case(
        "a fraction for a whole number",
        "1,2025-01-01,tea,1,1.5,2025-01-01,true",
        happens="rejected",
        said="items is not int",
    ),
    case(
        "a number beyond its type",
        "1,2025-01-01,tea,1,2147483648,2025-01-01,true",
        happens="rejected",
        said="items is not int",
    ),
    case(
        "a day that does not exist", "1,2025-01-01,tea,1,1,2025-02-30,true", happens="rejected", said="day is not date"
    ),
    case(
        "a day with words after it",
        "1,2025-01-01,tea,1,1,2025-01-01 or so,true",
        happens="rejected",
        said="day is not date",
    ),
    case(
        "a truth value in words",
        "1,2025-01-01,tea,1,1,2025-01-01,maybe",
        happens="rejected",
        said="paid is not boolean",
    ),
    case(
        "a time that is none",
        "1,yesterday,tea,1,1,2025-01-01,true",
        happens="rejected",
        said="paid_at is not timestamp",
    ),
    case(
        # gluten #12411, apache/spark #6377
        "a time with an abbreviated zone in a CSV file",
        "1,2025-01-01 12:00:00 CST,tea,1,1,2025-01-01,true",
        happens="rejected",
        said="time zone is an abbreviation",
    ),
    case(
        "a NULL in letters for a number",
        "1,2025-01-01,tea,NULL,1,2025-01-01,true",
        happens="rejected",
        said="amount is not double",
    ),
]


@pytest.fixture(scope="module")
def lines(spark, tmp_path_factory):
    """The rows of a file of good and bad lines, by user id for the good and by line for the bad."""
    folder = tmp_path_factory.mktemp("csv")
    bad = "".join(f"{values[1]}\n" for values in (parameter.values for parameter in BAD))
    write_text(folder / "bills" / "part-1.csv", HEADER + GOOD + bad + "\n")
    write_text(folder / "bills" / "part-2.csv.gz", gzip.compress((HEADER + "zip,2025-01-01,tea,1,1,,\n").encode()))
    for hidden in ("_SUCCESS", "_temporary.csv", ".part-1.csv.crc"):
        write_text(folder / "bills" / hidden, "no,bill\n")
    deployment = bills(folder, table="./bills", format="csv", schema=SCHEMA)
    return read_table(spark, deployment, "./bills").collect()


def test_good_lines_have_the_values_of_another_reader(lines):
    got = {row.user_id: row for row in lines if row[MALFORMED] is None}
    for fields in csv.DictReader(io.StringIO(HEADER + GOOD)):
        row = got.pop(fields["user_id"])
        assert row.merchant == (fields["merchant"] or None)
        assert row.amount == (float(fields["amount"]) if fields["amount"] else None)
        assert row["items"] == (int(fields["items"]) if fields["items"] else None)
        day = date(*map(int, fields["day"].split("-"))) if fields["day"] else None
        assert (row.day, row.paid) == (day, {"true": True, "false": False}.get(fields["paid"].lower()))
        at = datetime.fromisoformat(fields["paid_at"]) if fields["paid_at"] else None
        expected = at and (at if at.tzinfo else at.replace(tzinfo=UTC))
        assert (row.paid_at and row.paid_at.astimezone(UTC)) == expected
    assert set(got) == {"zip"}


@pytest.mark.parametrize(("wrong", "line"), BAD)
def test_a_bad_line_is_a_row_with_a_reason(lines, wrong, line):
    refused = [row[MALFORMED] for row in lines if row[MALFORMED]]
    [malformed] = [each for each in refused if [*csv.reader([each.line])] == [*csv.reader([line])]]
    says(wrong, "rejected", malformed.reason)


def test_every_line_is_a_row(lines):
    assert Counter(row[MALFORMED] is None for row in lines) == {True: 6, False: len(BAD)}


def read(spark, folder, text: str | bytes, **keys):
    write_text(folder / "bills.csv", text)
    keys = {"schema": "user_id STRING, paid_at STRING, merchant STRING, amount STRING", **keys}
    return read_table(spark, bills(folder, table="./bills.csv", format="csv", **keys), "./bills.csv")


FOUR = "user_id,paid_at,merchant,amount\n"
WRITTEN = [
    ("semicolons", "user_id;paid_at;merchant;amount\n1;x;a,b;1,5\n", {"delimiter": ";"}, ("1", "x", "a,b", "1,5")),
    ("no header", "1,x,tea,2\n", {"header": False}, ("1", "x", "tea", "2")),
    ("Latin-1", (FOUR + "1,x,Müller,2\n").encode("latin-1"), {"encoding": "ISO-8859-1"}, ("1", "x", "Müller", "2")),
    ("a byte order mark", b"\xef\xbb\xbf" + (FOUR + "1,x,tea,2\n").encode(), {}, ("1", "x", "tea", "2")),
    ("Windows line ends", FOUR.replace("\n", "\r\n") + "1,x,tea,2\r\n", {}, ("1", "x", "tea", "2")),
    ("escapes", FOUR + '1,x,"5\\" disk, new",2\n', {"escape": "\\"}, ("1", "x", '5" disk, new', "2")),
    ("a word for null", FOUR + "1,x,\\N,2\n", {"nullValue": "\\N"}, ("1", "x", None, "2")),
    ("a comment", FOUR + "# made by hand\n1,x,tea,2\n", {"comment": "#"}, ("1", "x", "tea", "2")),
    ("blanks, which belong to the values", FOUR + "1 , x,tea,2\n", {}, ("1 ", " x", "tea", "2")),
    ("header in other case", FOUR.upper() + "1,x,tea,2\n", {}, ("1", "x", "tea", "2")),
]


@pytest.mark.parametrize(("text", "options", "expected"), [pytest.param(*more, id=name) for name, *more in WRITTEN])
def test_a_file_may_be_written_in_several_ways(spark, tmp_path, text, options, expected):
    [row] = read(spark, tmp_path, text, options=options).collect()
    assert row[MALFORMED] is None
    assert tuple(row)[:4] == expected


def test_bytes_that_are_not_in_the_encoding_reject_the_row(spark, tmp_path):
    # Replacing the bytes would make one user of two.
    text = (FOUR + "M\xfcller,x,tea,2\nM\xf6ller,x,tea,2\n").encode("latin-1")
    rows = read(spark, tmp_path, text).collect()
    assert [row[MALFORMED].reason for row in rows] == ["user_id is not text in the file's encoding"] * 2


def test_counting_and_filtering_see_the_same_rows(spark, tmp_path):
    rows = read(spark, tmp_path, FOUR + "1,x,tea,2\n1,x\n")
    assert rows.count() == 2
    assert rows.where(F.col(MALFORMED).isNull()).count() == 1
    assert [tuple(row) for row in rows.groupBy("user_id").count().collect()] == [("1", 2)]


def test_folders_of_partitions_are_columns_of_texts(spark, tmp_path):
    write_text(tmp_path / "bills" / "user_id=007" / "a.csv", "paid_at,amount\n2025-01-01,1\n")
    write_text(tmp_path / "bills" / "user_id=7" / "a.csv", "paid_at,amount\n2025-01-01,2\n")
    deployment = bills(tmp_path, table="./bills", format="csv", schema="paid_at DATE, amount INT")
    rows = read_table(spark, deployment, "./bills").collect()
    assert {row.user_id: row.amount for row in rows} == {"007": 1, "7": 2}


SCHEMAS = [
    ("user_id STRNG", "schema = user_id STRNG: does not parse"),
    ("user_id CHAR(5)", "user_id is char(5), which a CSV file cannot hold; write STRING"),
    ("user_id STRING, tags ARRAY<STRING>", "tags is array<string>, which a CSV file cannot hold"),
    ("user_id STRING, raw BINARY", "raw is binary, which a CSV file cannot hold"),
    ("user_id STRING, USER_ID STRING", "already exists"),
]


@pytest.mark.parametrize(("schema", "problem"), SCHEMAS)
def test_a_schema_that_a_csv_file_cannot_have_is_refused(spark, tmp_path, schema, problem):
    with pytest.raises(TableError) as caught:
        read(spark, tmp_path, FOUR, schema=schema)
    assert problem in str(caught.value)


@row("a CSV file whose header has other columns")
def test_a_header_in_another_order_is_refused(spark, tmp_path, wrong):
    from jobs.lake.errors import translate_errors

    rows = read(spark, tmp_path, "user_id,merchant,paid_at,amount\n1,tea,2025-01-01,2\n")
    with pytest.raises(TableError) as caught, translate_errors():
        rows.collect()
    says(wrong, "refused", caught.value)
