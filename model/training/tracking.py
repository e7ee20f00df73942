"""MLflow, where it is installed and MLFLOW_TRACKING_URI names a server or a database."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)

TRACKING_URI, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
FINGERPRINT = "fingerprint"
"""The tag by which an interrupted run is found."""


class Tracking:
    """A training as a run of MLflow. An interrupted run is found by its fingerprint and continued.

    A failure of MLflow does not stop the training: it is logged once as a warning, and nothing more is sent.

    Parameters
    ----------
    name, fingerprint, settings
        The run's name, fingerprint and parameters.
    """

    def __init__(self, name: str, fingerprint: str, settings: Mapping[str, Any]) -> None:
        self._client: Any = None
        self._run, self._last_step = "", 0
        self._uri = os.environ.get(TRACKING_URI, "")
        if self._uri:
            self._try(lambda: self._open(name, fingerprint, settings))

    def log(self, lines: Sequence[Mapping[str, float]]) -> None:
        """Send the lines of steps that the run does not have yet."""
        if self._client:
            self._try(lambda: self._send([line for line in lines if line["step"] > self._last_step]))

    def finish(self) -> None:
        """End the run."""
        if self._client:
            self._try(lambda: self._client.set_terminated(self._run))

    def _open(self, name: str, fingerprint: str, settings: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self._uri)
        experiment_name = os.environ.get(EXPERIMENT, "instructue")
        experiment = client.get_experiment_by_name(experiment_name)
        number = experiment.experiment_id if experiment else client.create_experiment(experiment_name)
        unfinished = f"tags.{FINGERPRINT} = '{fingerprint}' AND attributes.status != 'FINISHED'"
        interrupted = client.search_runs([number], unfinished)
        run = (
            interrupted[0] if interrupted else client.create_run(number, run_name=name, tags={FINGERPRINT: fingerprint})
        )
        self._client, self._run = client, run.info.run_id
        for key, value in settings.items() if not interrupted else ():
            client.log_param(self._run, key, value)
        self._last_step = max((metric.step for metric in client.get_metric_history(self._run, "loss")), default=0)

    def _send(self, lines: Sequence[Mapping[str, float]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, int(line["step"]))
            for line in lines
            for name, value in line.items()
            if name != "step"
        ]
        for start in range(0, len(metrics), 1000):  # the most that MLflow takes at once
            self._client.log_batch(self._run, metrics[start : start + 1000])

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except ModuleNotFoundError:
            self._client = None
            logger.warning(
                f"{TRACKING_URI} is set but mlflow is not installed: the checkpoint's files have the metrics"
            )
        except Exception as error:  # a tracking server can fail in any way
            self._client = None
            logger.warning(f"MLflow at {self._uri} takes no metrics ({error}): the checkpoint's files have them")
