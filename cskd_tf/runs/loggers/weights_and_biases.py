"""Weights & Biases: the scalars of each epoch under the names that they have in `log.jsonl`, and the final metrics."""

from collections.abc import Mapping

from cskd_tf.runs.loggers import base


class Logger(base.Logger):
    """Logs to one run of W&B, whose files are in `WORKDIR/wandb`; `WANDB_MODE=offline` does without network.

    A run that goes on goes on there too, under the same id, which follows from the workdir. `log_final` ends it there,
    or the end of the process.
    """

    def on_epoch_end(self, epoch, logs=None):
        self._run.log({name: float(value) for name, value in logs.items()}, step=epoch + 1)

    def log_final(self, metrics: Mapping[str, float]) -> None:
        """Writes metrics of the finished network into the run's summary."""
        self._begin()
        self._run.summary.update(dict(metrics))
        self._run.finish()

    def _begin(self) -> None:
        """Goes on with this workdir's run: in this process, where it is open, or by its id."""
        import wandb

        identity = self._workdir.identity()[:16]
        if wandb.run is not None and wandb.run.id == identity:
            self._run = wandb.run  # opened anew within a second, it would write over its own files
            return
        self._run = wandb.init(
            project="cskd_tf",
            name=self._workdir.path.name,
            id=identity,
            resume="allow",
            reinit="finish_previous",
            dir=self._workdir.path,
            config=self._config.as_dict(),
            settings=wandb.Settings(console="off"),  # the screen is ours
        )
