"""MLflow: the scalars of each epoch under the names that they have in `log.jsonl`, and the final metrics."""

import math
import os
import time
from collections.abc import Mapping

from cskd_tf.runs.json_files import flatten
from cskd_tf.runs.loggers import base

EXPERIMENT, IDENTITY = "cskd_tf", "cskd_tf.identity"
MOST_PARAMETERS = 100  # that MLflow takes at once


class Logger(base.Logger):
    """Logs to one run of MLflow, in `WORKDIR/mlflow.db` or where MLFLOW_TRACKING_URI says.

    A run that goes on goes on there too, under the same id, found by what tells the workdir from others.
    """

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._logged = max((each.step for each in self._client.get_metric_history(self._id, "loss")), default=0)

    def on_epoch_end(self, epoch, logs=None):
        if epoch >= self._logged:  # else it is trained again, to the same values
            self._log(logs, step=epoch + 1)

    def on_train_end(self, logs=None):
        self._client.set_terminated(self._id)

    def log_final(self, metrics: Mapping[str, float]) -> None:
        """Writes metrics of the finished network, once."""
        self._begin()
        there = self._client.get_run(self._id).data.metrics
        self._log({name: metrics[name] for name in metrics if name not in there}, step=self._config.epochs)
        self._client.set_terminated(self._id)

    def _begin(self) -> None:
        """Finds this workdir's run, or makes it, with the config."""
        import mlflow

        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self._workdir.path.resolve()}/mlflow.db"
        self._client = mlflow.MlflowClient(place)
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        identity = self._workdir.identity()
        if runs := self._client.search_runs([experiment], f"tags.`{IDENTITY}` = '{identity}'"):
            self._id = runs[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        run = self._client.create_run(experiment, tags={IDENTITY: identity}, run_name=self._workdir.path.name)
        self._id = run.info.run_id
        parameters = [
            mlflow.entities.Param(name.replace("[", ".").replace("]", ""), str(value))
            for name, value in flatten(self._config.as_dict()).items()
        ]
        for first in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(self._id, params=parameters[first : first + MOST_PARAMETERS])

    def _log(self, values: Mapping[str, float], *, step: int) -> None:
        """Writes all values of a step at once: a process that is killed leaves none or all of them."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, float(value), now, step) for name, value in values.items() if math.isfinite(value)]
        self._client.log_batch(self._id, metrics=metrics)
