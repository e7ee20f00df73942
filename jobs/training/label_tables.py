"""Read tables of labels: `userqa`, `tune` and `evaluate` get the same rows, whatever wrote them.

`deltalake` reads a Delta table without a JVM where it reads every feature of the table correctly; Spark reads any other
table. A column may have every type that `COLUMNS` accepts, and one rule converts its values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config.company_table import Labels
from jobs.config.deployment import Deployment
from jobs.config.fields import FIRST_DAY, LAST_DAY
from jobs.config.location import is_catalog_name
from jobs.console.text import count, sql_name
from jobs.lake import delta
from jobs.lake.errors import translate_table_errors
from jobs.lake.protocol import UnsupportedTableError
from jobs.lake.user_ids import ACCEPTED, PADDING, holds_user_ids, is_missing, user_id_array
from model.errors import InstructUEError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

types = pa.types
TIME = pa.timestamp("us", "UTC")
MICROSECOND, DAY = timedelta(microseconds=1), timedelta(days=1)
FIRST, END = delta.midnight(FIRST_DAY), delta.midnight(LAST_DAY) + DAY
WRONG_YEAR = f"as_of before {FIRST_DAY.year} or after {LAST_DAY.year}"
NOT_ISO = "as_of is no ISO time"
NOT_WHOLE = "label is no whole number of 64 bits"


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(types.is_timestamp(kind) or types.is_date(kind))


LATEST_BY = "latest_by"
COLUMNS: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "user_id": (holds_user_ids, ACCEPTED),
    "as_of": (lambda kind: _is_time(kind) or _is_text(kind), "timestamps, dates or ISO texts"),
    "scenario": (_is_text, "texts"),
    "label": (lambda kind: _is_number(kind) or types.is_boolean(kind), "whole numbers, 0 and 1"),
    LATEST_BY: (lambda kind: _is_number(kind) or _is_time(kind), "numbers or times"),
}
"""The columns of a table of labels: a test of the type, and the type in words. `latest_by` names the last one."""


class LabelError(InstructUEError):
    """Labels that cannot be used, or labels of users without a profile."""


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """The rows of a table of labels.

    Attributes
    ----------
    rows : pa.Table
        `user_id` as a canonical user id, `as_of` in UTC, `scenario`, `label` as int64 and, where the section names a
        column, `latest_by`; null where the table has no valid value.
    why : pa.Table
        The same columns: why a row has no valid value, else null.
    given : pa.Table
        The same columns as the table has them.
    version : int, optional
        The version that was read; None where the table has none.
    """

    rows: pa.Table
    why: pa.Table
    given: pa.Table
    version: int | None

    def problems(self, selected: pa.ChunkedArray, words: str, columns: Sequence[str]) -> list[str]:
        """Return what is wrong with the selected rows, by column and reason, each with an example."""
        result = []
        for name in columns:
            why, given = self.why[name].filter(selected), self.given[name].filter(selected)
            for entry in why.drop_null().value_counts().to_pylist():
                reason = entry["values"]
                example = _shown(given[pc.index(why, reason).as_py()])
                result.append(f"{count(entry['counts'], 'row')}{words}: {reason}{example}; correct or remove them")
        return result


def read_label_table(deployment: Deployment, section: Labels, spark: SparkSession | None = None) -> LabelTable:
    """Read a table of labels and convert its columns.

    Parameters
    ----------
    spark : SparkSession, optional
        The session for a table that `deltalake` does not read correctly; None: one is started for it.

    Raises
    ------
    LabelError
        Columns are missing, or have types that hold no such values; the message has a line for each.
    TableError
        There is no such table, or it cannot be read.
    """
    names = {name: name for name in COLUMNS if name != LATEST_BY}
    names |= {LATEST_BY: section.latest_by} if section.latest_by else {}
    table, version = _read(deployment, section, [*names.values()], spark)
    given = pa.table({name: table[column] for name, column in names.items()})
    if wrong := [
        f"column {column} is {given[name].type}; write {COLUMNS[name][1]}"
        for name, column in names.items()
        if not COLUMNS[name][0](given[name].type)
    ]:
        raise LabelError("\n".join(wrong))
    converted = {
        "user_id": user_id_array(given["user_id"]),
        "as_of": _times(given["as_of"], ZoneInfo(section.timezone or "UTC")),
        "scenario": _convert(given["scenario"], pa.string(), _scenario, "no scenario"),
        "label": _convert(given["label"], pa.int64(), _label, "no label"),
    }
    if section.latest_by:
        order = given[LATEST_BY]
        missing = pc.if_else(pc.is_null(order, nan_is_null=True), f"no {section.latest_by}", None)
        converted[LATEST_BY] = order, missing
    return LabelTable(
        rows=pa.table({name: values for name, (values, _) in converted.items()}),
        why=pa.table({name: why.cast(pa.string()) for name, (_, why) in converted.items()}),
        given=given,
        version=version,
    )


def _read(
    deployment: Deployment, section: Labels, columns: Sequence[str], spark: SparkSession | None
) -> tuple[pa.Table, int | None]:
    """Return these columns of a table, and its version where it has versions."""
    path = deployment.table(section.table)
    if section.format == "delta" and not is_catalog_name(section.table):
        if not delta.table_exists(path):
            raise delta.missing_table_error(deployment, section.table)
        with suppress(UnsupportedTableError):
            opened = delta.open_path(path)
            _require_columns([field.name for field in opened.schema().fields], columns)
            return delta.read_rows(opened, columns=columns), opened.version()
    from jobs.lake import spark_tables

    with _session(deployment, spark) as session, translate_table_errors(path):
        versions: dict[str, int] = {}
        rows = spark_tables.read_pinned(session, deployment, section.table, versions)
        _require_columns(rows.columns, columns)
        _require_sound_lines(rows)
        return rows.select(*map(sql_name, columns)).toArrow(), versions.get(section.table)


def _require_sound_lines(rows: DataFrame) -> None:
    """Raise LabelError where lines of a CSV file are no rows of its schema."""
    from jobs.lake.csv_rows import MALFORMED

    if MALFORMED not in rows.columns:
        return
    malformed = [row[MALFORMED] for row in rows.select(MALFORMED).where(rows[MALFORMED].isNotNull()).collect()]
    if malformed:
        lines, first = count(len(malformed), "line"), malformed[0]
        raise LabelError(f"{lines} cannot be read, such as {first.line!r}: {first.reason}; correct or remove them")


@contextmanager
def _session(deployment: Deployment, spark: SparkSession | None) -> Iterator[SparkSession]:
    """Return the given session, or the active one, or one that ends with the block."""
    from pyspark.sql import SparkSession

    from jobs.lake.session import get_session

    active = spark or SparkSession.getActiveSession()
    session = active or get_session(deployment, named=False)
    try:
        yield session
    finally:
        if active is None:
            session.stop()


def _require_columns(present: Sequence[str], columns: Sequence[str]) -> None:
    if missing := [column for column in columns if column not in present]:
        raise LabelError(
            "\n".join(
                f"there is no column {column}; write one of {COLUMNS.get(column, COLUMNS[LATEST_BY])[1]}"
                for column in missing
            )
        )


Converted = tuple[pa.ChunkedArray, pa.ChunkedArray]
"""The converted values, and the reasons where there is none."""


def _convert(
    values: pa.ChunkedArray, kind: pa.DataType, convert: Callable[[Any], tuple[Any, str | None]], missing: str
) -> Converted:
    """Convert each distinct value by a function of Python, which returns the value and None, or None and the reason."""
    coded = values.combine_chunks().dictionary_encode()
    distinct = [convert(value) for value in coded.dictionary.to_pylist()]
    converted = pa.array([value for value, _ in distinct], kind).take(coded.indices)
    why = pa.array([reason for _, reason in distinct], pa.string()).take(coded.indices)
    why = pc.if_else(pc.is_null(coded.indices), pa.scalar(missing), why)
    return pa.chunked_array([converted]), pa.chunked_array([why])


def _times(values: pa.ChunkedArray, zone: ZoneInfo) -> Converted:
    """Return times in UTC. A time, a date or a text without an offset is one of the zone; a date is its midnight."""
    kind = values.type
    if _is_text(kind):
        return _convert(values, TIME, lambda text: _of_text(text, zone), "no as_of")
    if types.is_date(kind):
        values = values.cast(pa.date32()).cast(pa.timestamp("us"))
    # As numbers, because Arrow holds times that Python does not.
    numbers = values.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    own_zone = UTC if getattr(kind, "tz", None) else zone
    return _convert(numbers, TIME, lambda number: _of_number(number, own_zone), "no as_of")


def _of_number(number: int, zone: Any) -> tuple[datetime | None, str | None]:
    if not -DAY // MICROSECOND <= number < (END + DAY - FIRST) // MICROSECOND:
        return None, WRONG_YEAR
    return _in_utc((FIRST + number * MICROSECOND).replace(tzinfo=zone))


def _of_text(text: str, zone: ZoneInfo) -> tuple[datetime | None, str | None]:
    try:
        # Python reads further forms, such as 20250303, which are other times in Spark.
        time = datetime.fromisoformat(text.strip()) if re.match(r"\s*\d{4}-\d{2}-\d{2}", text) else None
    except ValueError:
        time = None
    if time is None:
        return None, NOT_ISO
    if not FIRST_DAY.year - 1 <= time.year <= LAST_DAY.year + 1:
        return None, WRONG_YEAR
    return _in_utc(time if time.tzinfo else time.replace(tzinfo=zone))


def _in_utc(time: datetime) -> tuple[datetime | None, str | None]:
    utc = time.astimezone(UTC)
    return (utc, None) if FIRST <= utc < END else (None, WRONG_YEAR)


def _scenario(text: str) -> tuple[str, None]:
    return text.rstrip(PADDING), None


def _label(value: Any) -> tuple[int | None, str | None]:
    if is_missing(value):
        return None, "no label"
    if abs(value) >= 2**63 or value != int(value):  # infinity is larger too
        return None, NOT_WHOLE
    return int(value), None


def _shown(example: pa.Scalar) -> str:
    """Return an example as the end of a clause; empty for a missing value."""
    if _is_time(example.type):  # Arrow holds times that Python does not
        example = example.cast(pa.string())
    value = example.as_py()
    return "" if is_missing(value) else f", such as {value!r}"
