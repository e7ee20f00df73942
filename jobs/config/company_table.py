"""A table of the company: a source of events, the attributes or labels.

`table` is a name in the lake, a path or URI, or a name of Spark's catalogs; docs/deployment.md has the rule.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from jobs.config.fields import Section, TableName, Text, TimeZone, require_text
from jobs.config.location import is_catalog_name

CSV_OPTIONS = ("comment", "delimiter", "encoding", "escape", "header", "nullValue", "quote")
"""The options of Spark's CSV reader that say how a file is written; the others would change what a row means."""
ENCODINGS = ("UTF-8", "ISO-8859-1", "US-ASCII")
"""Encodings of CSV files. Spark cuts lines at the byte of a line break, which UTF-16 and UTF-32 have within letters."""
NO_ICEBERG = (
    "Apache Iceberg has no Spark runtime for Spark 4.2 (1.12.0's for Spark 4.1 fails in it with "
    "IncompatibleClassChangeError), so Iceberg tables cannot be read; write the rows to a Delta or Parquet table"
)


def _require_option(name: str) -> str:
    if name == "multiLine":
        raise ValueError(
            "a quote that is not closed would take the lines after it into one value; write values without line "
            "breaks, or a Parquet file"
        )
    if name not in CSV_OPTIONS:
        raise ValueError(f"no option of a CSV file; use one of {', '.join(CSV_OPTIONS)}")
    return name


class CompanyTable(Section):
    """A table that the company owns, and what a reader must know about it."""

    table: TableName
    format: Literal["delta", "parquet", "csv", "iceberg"] = "delta"
    columns: Text | None = Field(default=None, alias="schema")
    """The columns of a CSV file and their types in Spark SQL, as in `user_id STRING, paid_at TIMESTAMP`."""
    options: dict[Annotated[str, AfterValidator(_require_option)], str | bool] = Field(default_factory=dict)
    timezone: TimeZone | None = None
    """Zone of times without an offset; None: UTC."""

    @model_validator(mode="after")
    def _validate_format(self) -> Self:
        if self.format == "iceberg":
            raise ValueError(f"{self.table}: {NO_ICEBERG}")
        if is_catalog_name(self.table) and "format" in self.model_fields_set:
            raise ValueError(
                f"{self.table} is a name of a catalog, which knows the format; remove `format`, or write "
                f"./{self.table} for a file or folder"
            )
        if self.format == "csv" and self.columns is None:
            raise ValueError("a CSV file needs its columns; add `schema: <column> <TYPE>, ...`")
        if self.format != "csv" and (self.columns is not None or self.options):
            raise ValueError(f"`schema` and `options` are for format csv; a {self.format} table has its own columns")
        if (encoding := str(self.options.get("encoding", ENCODINGS[0]))).upper() not in ENCODINGS:
            raise ValueError(f"options.encoding = {encoding!r}: use one of {', '.join(ENCODINGS)}; convert the files")
        return self

    @property
    def reading(self) -> tuple[object, ...]:
        """How the table's rows are read; sections that name one table must agree in it."""
        # Only a CSV reader converts times; other times are converted by each section on its own.
        return self.format, self.columns, self.options, self.timezone if self.format == "csv" else None


class Labels(CompanyTable):
    """A table of labels: user_id, as_of, scenario, label."""

    latest_by: Text | None = None
    """Column of numbers or times that orders the labels of one user, scenario and as_of: the latest one counts."""


def _expand_table(labels: Any) -> Any:
    """Return the mapping of a plain table name."""
    return {"table": require_text(labels)} if isinstance(labels, str) else labels


LabelsTable = Annotated[Labels, BeforeValidator(_expand_table)]
"""A mapping, or the table alone."""
