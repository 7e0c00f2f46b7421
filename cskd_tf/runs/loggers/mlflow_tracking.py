"""MLflow: the scalars of each epoch under the names that they have in `log.jsonl`."""

import math
import os

import keras

from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir, flatten

EXPERIMENT, IDENTITY = "cskd_tf", "cskd_tf.identity"


class Logger(keras.callbacks.Callback):
    """Logs to one run of MLflow, in `WORKDIR/mlflow.db` or where MLFLOW_TRACKING_URI says.

    A run that goes on goes on there too, under the same id, found by what tells the workdir from others.

    Args:
        config: of the run.
        workdir: of the run, with its config.
    """

    def __init__(self, config: Config, workdir: Workdir):
        super().__init__()
        self._config, self._workdir = config, workdir

    def on_train_begin(self, logs=None):
        import mlflow

        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self._workdir.path.resolve()}/mlflow.db"
        self._client = mlflow.MlflowClient(place)
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        identity = self._workdir.identity()
        runs = self._client.search_runs([experiment], f"tags.`{IDENTITY}` = '{identity}'")
        self._logged = 0
        if runs:
            self._id = runs[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            self._logged = max((each.step for each in self._client.get_metric_history(self._id, "loss")), default=0)
            return
        run = self._client.create_run(experiment, tags={IDENTITY: identity}, run_name=self._workdir.path.name)
        self._id = run.info.run_id
        for name, value in flatten(self._config.as_dict()).items():
            self._client.log_param(self._id, name.replace("[", ".").replace("]", ""), value)

    def on_epoch_end(self, epoch, logs=None):
        if epoch < self._logged:  # it is trained again, to the same values
            return
        for name, value in logs.items():
            if math.isfinite(value):
                self._client.log_metric(self._id, name, float(value), step=epoch + 1)

    def on_train_end(self, logs=None):
        self._client.set_terminated(self._id)
