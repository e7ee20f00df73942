"""MLflow, where it is installed and MLFLOW_TRACKING_URI names a server or a database."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)

TRACKING_URI, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
MARK = "fingerprint"


class Tracking:
    """A training as a run of MLflow. One that was killed is found again by its fingerprint and goes on.

    Tracking that fails must not cost the training: it is said once, and no more is told.

    Parameters
    ----------
    name, mark, settings
        The run's name, fingerprint and parameters.
    """

    def __init__(self, name: str, mark: str, settings: Mapping[str, Any]) -> None:
        self._client: Any = None
        self._run, self._told = "", 0
        self._uri = os.environ.get(TRACKING_URI, "")
        if self._uri:
            self._try(lambda: self._open(name, mark, settings))

    def tell(self, lines: Sequence[Mapping[str, float]]) -> None:
        """Log the lines of steps that the run does not have yet."""
        if self._client:
            self._try(lambda: self._write([line for line in lines if line["step"] > self._told]))

    def finish(self) -> None:
        """Say that the run is over."""
        if self._client:
            self._try(lambda: self._client.set_terminated(self._run))

    def _open(self, name: str, mark: str, settings: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self._uri)
        experiment_name = os.environ.get(EXPERIMENT, "instructue")
        experiment = client.get_experiment_by_name(experiment_name)
        number = experiment.experiment_id if experiment else client.create_experiment(experiment_name)
        killed = client.search_runs([number], f"tags.{MARK} = '{mark}' AND attributes.status != 'FINISHED'")
        run = killed[0] if killed else client.create_run(number, run_name=name, tags={MARK: mark})
        self._client, self._run = client, run.info.run_id
        for key, value in settings.items() if not killed else ():
            client.log_param(self._run, key, value)
        self._told = max((metric.step for metric in client.get_metric_history(self._run, "loss")), default=0)

    def _write(self, lines: Sequence[Mapping[str, float]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, int(line["step"]))
            for line in lines
            for name, value in line.items()
            if name != "step"
        ]
        for start in range(0, len(metrics), 1000):  # MLflow takes no more at once
            self._client.log_batch(self._run, metrics[start : start + 1000])

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except ModuleNotFoundError:
            self._client = None
            logger.warning(
                f"{TRACKING_URI} is set but mlflow is not installed: the checkpoint's files have the metrics"
            )
        except Exception as error:  # whatever stands between here and a tracking server
            self._client = None
            logger.warning(f"MLflow at {self._uri} takes no metrics ({error}): the checkpoint's files have them")
