"""What is served of a finished run: its network, with what its own predictions of validation images say of it."""

import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs.evaluate import NO_VALIDATION
from cskd_tf.runs.experiment import Experiment
from cskd_tf.runs.workdir import Workdir
from cskd_tf.serving.calibration import Calibration
from cskd_tf.serving.functions import Serving


def serving_of(experiment: Experiment, workdir: Workdir) -> Serving:
    """The functions of a run, with its weights as they are now, calibrated as `config.export` says.

    Args:
        experiment: of the run.
        workdir: with the predictions of its validation images, where it has any.

    Raises:
        UserError: predictions that are not there, or of other images.
    """
    wanted = experiment.config.export
    asked = wanted.temperature == "auto" or wanted.coverage > 0
    validation = predictions_of("val", experiment, workdir) if asked and "val" in experiment.splits else None
    calibration = Calibration.fit(
        validation,
        temperature=wanted.temperature == "auto",
        coverage=wanted.coverage,
        why_no_validation=NO_VALIDATION,
    )
    return Serving(
        experiment.model,
        experiment.evaluation_transform,
        class_names=experiment.splits["train"].class_names,
        calibration=calibration,
    )


def predictions_of(split: str, experiment: Experiment, workdir: Workdir) -> Predictions:
    """What a finished run has written of a split: the predictions of its last epoch, which are not computed again.

    Raises:
        UserError: no such file, or one of other images.
    """
    path = workdir.predictions(split)
    if not path.exists():
        raise UserError(f"Expected {path}; --mode=evaluate writes it again. Received: no such file")
    predictions = Predictions.load(path)
    labels, classes = experiment.splits[split].labels, len(experiment.splits["train"].class_names)
    if not np.array_equal(predictions.labels, labels) or predictions.logits.shape != (len(labels), classes):
        raise UserError(
            f"Expected {path} to be of the {len(labels)} images of the {split} split and {classes} classes; "
            f"--mode=evaluate writes it again. Received: others, of shape {predictions.logits.shape}"
        )
    return predictions
