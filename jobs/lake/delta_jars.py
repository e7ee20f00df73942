"""Delta's jars, put once beside Spark's own, so that no session and no spark-submit has to fetch anything.

    python -m jobs.lake.delta_jars

Spark's Ivy fetches the version that the installed delta-spark names, through whatever mirror or proxy is set up
for it, and keeps it in its cache: a second checkout on the same machine downloads nothing.
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
# Whatever else they need ships with Spark, in the versions that Spark was tested with.
SHIPPED_WITH_SPARK = "org.*:*,com.*:*,javax.*:*,commons-*:*,io.airlift:*"
TELL_JARS = """
from pyspark import SparkConf, SparkContext
SparkContext._ensure_initialized()
print("jars:" + SparkConf().get("spark.jars"))
"""


class DeltaJarsError(InstructUEError):
    """Delta's jars could not be fetched."""


def install() -> list[Path]:
    """Fetch Delta's jars into pyspark's jars folder, unless they are there; return where they are.

    Raises
    ------
    DeltaJarsError
        They could not be fetched: no network, or no mirror set up for it.
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
        # The main jar last: its presence says that all of them are there.
        for name in sorted(fetched, key=lambda name: name == main.name):
            with atomic_write(main.with_name(name)) as jar:
                shutil.copyfile(fetched[name], jar)
    return _present(main.parent)


def _present(jars: Path) -> list[Path]:
    return sorted(jar for kind in ("delta-*.jar", "unitycatalog-*.jar") for jar in jars.glob(kind))


def _fetch(home: Path, coordinates: str) -> list[Path]:
    environment = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    with tempfile.TemporaryDirectory() as folder:
        application = Path(folder, "tell_jars.py")
        application.write_text(TELL_JARS)
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
    told = [line.removeprefix("jars:") for line in run.stdout.splitlines() if line.startswith("jars:")]
    if run.returncode or not told:
        raise DeltaJarsError(
            f"Delta's jars ({coordinates}) could not be fetched; Ivy needs the network once, or "
            "spark.jars.ivySettings in Spark's defaults naming a mirror. It said:\n"
            f"{run.stderr[-2000:]}"
        )
    return [Path(jar.removeprefix("file:")) for jar in told[0].split(",") if jar]


def _name(jar: Path) -> str:
    """Ivy writes group_artifact-version.jar; Spark's folder holds artifact-version.jar."""
    return next((jar.name.removeprefix(f"{group}_") for group in GROUPS if jar.name.startswith(f"{group}_")), jar.name)


if __name__ == "__main__":
    print("\n".join(str(path) for path in install()))
