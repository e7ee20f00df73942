"""Put Delta's jars into pyspark's folder of jars, so that no session and no spark-submit downloads anything.

    python -m jobs.lake.delta_jars

Spark's Ivy fetches the version that the installed delta-spark names, through the mirror or proxy that is set up for it.
Ivy caches the jars, so a second checkout on the same machine downloads nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from model.atomic_write import atomic_write
from model.errors import InstructUEError

GROUPS = ("io.delta", "io.unitycatalog")
# Spark ships their other dependencies, in the versions that it was tested with.
SHIPPED_WITH_SPARK = "org.*:*,com.*:*,javax.*:*,commons-*:*,io.airlift:*"
PRINT_JARS = """
from pyspark import SparkConf, SparkContext
SparkContext._ensure_initialized()
print("jars:" + SparkConf().get("spark.jars"))
"""


class DeltaJarsError(InstructUEError):
    """Delta's jars could not be fetched."""


def install() -> list[Path]:
    """Fetch Delta's jars into pyspark's folder of jars, unless they are in it; return their paths.

    Raises
    ------
    DeltaJarsError
        They could not be fetched: there is no network and no mirror.
    """
    import pyspark
    from delta import configure_spark_with_delta_pip
    from pyspark.sql import SparkSession

    home = Path(pyspark.__file__).parent
    coordinates = configure_spark_with_delta_pip(SparkSession.Builder())._options["spark.jars.packages"]
    _, artifact, version = coordinates.split(":")
    main = home / "jars" / f"{artifact}-{version}.jar"
    if not main.exists():
        fetched = {_name(jar): jar for jar in _fetch(home, coordinates)}
        for old in _present(main.parent):
            old.unlink()
        # The main jar comes last: if it is present, all are.
        for name in sorted(fetched, key=lambda name: name == main.name):
            with atomic_write(main.with_name(name)) as jar:
                shutil.copyfile(fetched[name], jar)
    return _present(main.parent)


def _present(jars: Path) -> list[Path]:
    return sorted(jar for kind in ("delta-*.jar", "unitycatalog-*.jar") for jar in jars.glob(kind))


def _fetch(home: Path, coordinates: str) -> list[Path]:
    environment = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    with tempfile.TemporaryDirectory() as folder:
        application = Path(folder, "print_jars.py")
        application.write_text(PRINT_JARS)
        command = [
            str(home / "bin" / "spark-submit"),
            "--master",
            "local[1]",
            "--packages",
            coordinates,
            "--exclude-packages",
            SHIPPED_WITH_SPARK,
            str(application),
        ]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    printed = [line.removeprefix("jars:") for line in run.stdout.splitlines() if line.startswith("jars:")]
    if run.returncode or not printed:
        raise DeltaJarsError(
            f"Delta's jars ({coordinates}) could not be fetched; Ivy needs the network once, or "
            "spark.jars.ivySettings in Spark's defaults naming a mirror. It said:\n"
            f"{run.stderr[-2000:]}"
        )
    return [Path(jar.removeprefix("file:")) for jar in printed[0].split(",") if jar]


def _name(jar: Path) -> str:
    """Return Spark's name of a jar, artifact-version.jar; Ivy's is group_artifact-version.jar."""
    return next((jar.name.removeprefix(f"{group}_") for group in GROUPS if jar.name.startswith(f"{group}_")), jar.name)


if __name__ == "__main__":
    print("\n".join(str(path) for path in install()))
