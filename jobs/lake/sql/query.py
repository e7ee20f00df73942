"""Queries over a lake in SQL, and their results as Arrow or as Python values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, ParseException, PySparkException
from pyspark.sql import DataFrame, SparkSession

from jobs.config.deployment import Deployment
from jobs.lake.error_text import error_reason
from jobs.lake.errors import ExpressionError, as_user_error
from jobs.lake.sql.views import register_company_views, register_views
from model.errors import InstructUEError

FIXES = {
    "UNSUPPORTED_DATA_TYPE_FOR_ARROW_CONVERSION": "ask for such a column as CAST(... AS STRING)",
    "DUPLICATED_FIELD_NAME_IN_ARROW_STRUCT": "give the fields of the struct names of their own",
    "CAST_INVALID_INPUT": "correct the value, or write try_cast, which gives NULL for it",
}
"""What to write instead, by the condition of the error, where Spark's message does not say it."""


class SqlError(InstructUEError):
    """A query that Spark cannot run; the message says why and, for an unknown name, lists the names."""


def run_sql(spark: SparkSession, deployment: Deployment, query: str) -> DataFrame:
    """Return the result of one SQL statement over the deployment's tables, views and functions.

    Raises
    ------
    SqlError
        The statement does not parse, uses a name that does not exist, or cannot be run.
    """
    names = (*register_views(spark, deployment), *register_company_views(spark, deployment))
    try:
        return spark.sql(query)
    except ParseException as error:
        raise SqlError(f"the query does not parse: {error_reason(error)}") from None
    except AnalysisException as error:
        raise SqlError(f"{error_reason(error)}\nTables, views and functions: {', '.join(names)}") from None
    except (PySparkException, Py4JJavaError) as error:
        raise _query_error(error) from None


def fetch_arrow(result: DataFrame) -> pa.Table:
    """Return the rows of a query's result, timestamps in UTC; two columns may have the same name.

    Raises
    ------
    SqlError
        Spark failed while it computed them: a division by zero, a value that cannot be cast, a lost file.
    """
    try:
        return result.toArrow()
    except (PySparkException, Py4JJavaError) as error:
        raise _query_error(error) from None


def iterate_rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Yield the Python values of each row, maps as dictionaries.

    Raises
    ------
    SqlError
        Python cannot represent a value: a year after 9999, a string that is not UTF-8.
    """
    for batch in table.to_batches():
        columns = []
        for name, column in zip(table.column_names, batch.columns, strict=True):
            try:
                columns.append(column.to_pylist(maps_as_pydicts="strict"))
            except (ValueError, OverflowError) as error:
                raise SqlError(
                    f"column {name!r} of the answer: {error}; ask for it as CAST({name} AS STRING), or as "
                    f"hex({name}) where it holds bytes"
                ) from None
        yield from zip(*columns, strict=True)


def iterate_objects(result: DataFrame) -> Iterator[dict[str, Any]]:
    """Return the rows of a query's result as dictionaries from column to value.

    Raises
    ------
    SqlError
        Two columns have the same name, or as for `fetch_arrow` and `iterate_rows`.
    """
    repeated = [name for name, count in Counter(result.columns).items() if count > 1]
    if repeated:
        raise SqlError(
            f"two columns of the answer are named {repeated[0]!r}, and a JSON object has room for one: give "
            f"it an alias, as in `b.{repeated[0]} AS other_{repeated[0]}`"
        )
    table = fetch_arrow(result)
    return (dict(zip(table.column_names, row, strict=True)) for row in iterate_rows(table))


def _query_error(error: PySparkException | Py4JJavaError) -> InstructUEError:
    """Return the error of a query that failed, with what to write instead where `FIXES` has it."""
    known = as_user_error(error)
    # FIXES has what to write in a query; an ExpressionError says what to write in a deployment or questions file.
    if known is not None and not isinstance(known, ExpressionError):
        return known
    condition = error.getCondition() if isinstance(error, PySparkException) else None
    fix = FIXES.get(condition or "")
    return SqlError(f"the query fails: {error_reason(error)}{f'; {fix}' if fix else ''}")
