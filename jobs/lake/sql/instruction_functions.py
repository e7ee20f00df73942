"""Registration of the SQL functions that compare stored vectors with an instruction, `focus` and `score`.

They belong to a session, since a metastore keeps no Python function.
"""

from __future__ import annotations

import logging

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.config.deployment import Deployment
from jobs.lake.release_pointers import CURRENT, pointed_release
from jobs.lake.sql.definitions import INSTRUCTION_FUNCTIONS
from model.errors import InstructUEError

logger = logging.getLogger(__name__)


def register_functions(spark: SparkSession, deployment: Deployment) -> tuple[str, ...]:
    """Register the functions of the current release in this session; return their names, none without a release."""
    try:
        release = pointed_release(deployment, CURRENT)
    except InstructUEError as error:
        logger.warning("the current release cannot be used in SQL: %s", error)
        release = None
    if release is None:
        for definition in INSTRUCTION_FUNCTIONS:  # those of another lake, which the session may have
            spark.sql(f"DROP TEMPORARY FUNCTION IF EXISTS {definition.name}")
        return ()
    from jobs.lake.sql.instruction_udf import InstructionFunction  # onnxruntime takes time to import

    for definition in INSTRUCTION_FUNCTIONS:
        function = InstructionFunction(
            name=definition.name, release=str(release), providers=deployment.model.providers
        ).function()
        returned = definition.columns[0].type
        spark.udf.register(definition.name, F.arrow_udf(function, returned))  # type: ignore[call-overload]
    return tuple(definition.name for definition in INSTRUCTION_FUNCTIONS)
