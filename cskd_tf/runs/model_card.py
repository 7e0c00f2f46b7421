"""The card of an exported classifier: what it is, what it was trained on, how good it is, and how it is called.

Its form is that of Hugging Face's model cards (Mitchell et al., 2019): Markdown under a head of YAML. All figures are
read from the run's files or computed from its predictions.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.data.catalogue.datasets import find_dataset
from cskd_tf.evaluation.conformal import coverage_and_size
from cskd_tf.evaluation.figures.reliability import save_reliability_diagram
from cskd_tf.evaluation.intervals import LEVEL, resampled
from cskd_tf.evaluation.outcomes import Outcomes, metric_intervals
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.evaluation.scores import softmax
from cskd_tf.runs import provenance
from cskd_tf.runs.assessment_tables import HEADINGS, cell, ends
from cskd_tf.runs.experiment import Experiment
from cskd_tf.runs.memory import parameters_of
from cskd_tf.runs.provenance import NOT_KNOWN
from cskd_tf.runs.report import name_of_methods
from cskd_tf.runs.served import predictions_of
from cskd_tf.runs.workdir import Workdir
from cskd_tf.serving.calibration import SETS, TEMPERATURE, Calibration
from cskd_tf.serving.functions import Serving

CARD, FIGURE = "README.md", "calibration.png"
METRICS = ("top1_error", "top5_error", "nll", "brier", "ece_10", "ece_15", "ece_20", "aurc")
NAMED = 50  # classes, at most; classes.json has all of them


def write(
    folder: pathlib.Path,
    serving: Serving,
    *,
    experiment: Experiment,
    workdir: Workdir,
    name: str,
    runtimes: Mapping[str, Mapping[str, float]],
) -> None:
    """Writes `README.md` and `calibration.png` to the folder of a SavedModel.

    Args:
        folder: of the SavedModel.
        serving: what it serves.
        experiment: of the run.
        workdir: with the predictions of its test split.
        name: its title.
        runtimes: what `formats.write_all` says of the files for other runtimes.

    Raises:
        UserError: there are no predictions of the test split, or of other images.
    """
    test = predictions_of("test", experiment, workdir)
    served = Predictions(test.logits / (serving.calibration.temperature or 1.0), test.labels)
    bins = experiment.config.evaluation.ece_bins
    save_reliability_diagram(served, folder / FIGURE, bins=bins, title=f"{name}: test images, as served")
    outcomes = Outcomes.of(served.logits, served.labels)
    parts = [
        _head(name, experiment, metrics=outcomes.metrics()),
        f"# {name}\n",
        _what(serving, experiment, workdir),
        _USE.format(crop=_crop(serving)),
        _data(experiment),
        _metrics(outcomes, Outcomes.of(test.logits, test.labels), calibration=serving.calibration),
        _calibration(serving.calibration, test),
        _calls(serving),
        *([_runtimes(runtimes)] if runtimes else []),
        _origin(experiment, workdir),
    ]
    (folder / CARD).write_text("\n".join(parts))


def _head(name: str, experiment: Experiment, *, metrics: Mapping[str, float]) -> str:
    """What machines read, as YAML, in which JSON is at home too."""
    config = experiment.config
    measured = [("accuracy", 1 - metrics["top1_error"]), ("nll", metrics["nll"]), ("ece_15", metrics["ece_15"])]
    data_set = {"name": config.data.source.name, "type": config.data.source.name, "split": "test"}
    result = {
        "task": {"type": "image-classification"},
        "dataset": data_set,
        "metrics": [{"type": kind, "value": round(value, 6)} for kind, value in measured],
    }
    head = {
        "pipeline_tag": "image-classification",
        "tags": ["tensorflow", "saved-model", "image-classification", config.network.name],
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": [result]}],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    return "\n".join(["---", *lines, "---", ""])


def _what(serving: Serving, experiment: Experiment, workdir: Workdir) -> str:
    config = experiment.config
    names = serving.class_names
    listed = ", ".join(names[:NAMED]) + (f", and {len(names) - NAMED} more" if len(names) > NAMED else "")
    imported = workdir.imported_from()
    rows = [
        ("network", config.network.name + (f", width {config.network.width}" if config.network.width else "")),
        ("trained parameters", f"{parameters_of(experiment.model.network):,}"),
        ("trained by", f"{name_of_methods(config)}, {config.epochs} epochs" if imported is None else "another program"),
        ("precision", config.precision),
        ("images", f"{_colours(serving)}, resized to {serving.size} x {serving.size} pixels"),
        ("classes", f"{len(names)}: {listed}"),
    ]
    return "\n".join(["A classifier of images.\n", *_table(("", ""), rows), ""])


def _colours(serving: Serving) -> str:
    return "colour" if serving.channels == 3 else "grey"


_USE = """\
## Intended use and limits

It is meant for images like those that it was trained on: of the same classes, taken in the same way. One of its classes
is the answer to every image, whatever that shows; of images of another kind neither the class, nor its probability, nor
the conformal set means anything. How good it is where images differ from the test images, or for groups of them, was
not measured. Nobody has examined it for uses in which a mistake does harm.

- Of an image the square in its middle is resized, {crop}; an EXIF orientation is not applied.
- The intervals below say how far the figures would move on other test images, not on another training.
- Whether the classifier may be used, and for what, also depends on the licence of its images.
"""


def _crop(serving: Serving) -> str:
    return "as wide as its shorter side" if serving.crop == 1 else f"{serving.crop:.1%} as wide as its shorter side"


def _data(experiment: Experiment) -> str:
    config, rows = experiment.config, []
    for split, source in experiment.splits.items():
        counts = np.bincount(source.labels, minlength=len(source.class_names))
        rows.append((split, f"{len(source.labels):,}", f"{counts.min():,} to {counts.max():,}"))
    given = config.data.source
    parts = [given.name] if given.licence else given.name.split("+")
    licences = [f"- {name}: {given.licence or find_dataset(name).licence or NOT_KNOWN}" for name in parts]
    table = _table((given.name, "images", "per class"), rows)
    return "\n".join(["## Data\n", *table, "", "Licence of the images:\n", *licences, ""])


def _metrics(served: Outcomes, raw: Outcomes, *, calibration: Calibration) -> str:
    drawn = resampled(served.metrics, len(served.correct))
    values, before = served.metrics(), raw.metrics()
    intervals, rows = metric_intervals(drawn, values), []
    for name in METRICS:
        heading, factor = HEADINGS[name]
        row = [heading, cell(values[name], factor), ends(intervals[name], factor)]
        rows.append([*row, cell(before[name], factor)] if calibration.temperature else row)
    headings = ["", "as served", f"{100 * LEVEL:.0f} % interval"]
    headings += ["before the temperature"] if calibration.temperature else []
    return "\n".join(
        [f"## Metrics\n\nOn {len(served.correct):,} test images, after the last epoch.\n", *_table(headings, rows), ""]
    )


def _calibration(calibration: Calibration, test: Predictions) -> str:
    lines = [f"## Calibration\n\n![Accuracy against confidence]({FIGURE})\n"]
    if calibration.temperature:
        lines.append(f"Logits are divided by {calibration.temperature:.4f}, fitted on validation images.\n")
    elif TEMPERATURE in calibration.left_out:
        lines.append(f"There is no temperature: {calibration.left_out[TEMPERATURE]}\n")
    else:
        lines.append("There is no temperature, because none was asked for.\n")
    if calibration.threshold is not None and calibration.coverage is not None:
        sets = coverage_and_size(softmax(test.logits) >= calibration.threshold, test.labels)
        lines.append(
            f"The conformal set of an image is to hold its class in {100 * calibration.coverage:g} % of the cases. Of "
            f"the test images it holds it in {100 * sets['coverage']:.2f} %, with {sets['size']:.2f} classes on "
            f"average, and is empty for {100 * sets['empty']:.2f} %. A class is in the set if its probability before "
            f"the temperature is at least {calibration.threshold:.6f}.\n"
        )
    elif SETS in calibration.left_out:
        lines.append(f"There are no conformal sets: {calibration.left_out[SETS]}\n")
    else:
        lines.append("There are no conformal sets, because none were asked for.\n")
    return "\n".join(lines)


def _calls(serving: Serving) -> str:
    rows = []
    for name, (function, spec) in serving.signatures.items():
        outputs = tf.function(function, input_signature=[spec], autograph=False).get_concrete_function()
        listed = ", ".join(f"`{output}`" for output in outputs.structured_outputs)
        rows.append((f"`{name}`", f"`{spec.name}` {spec.dtype.name} {_shape(spec)}", listed))
    call = f"""\
## How to call it

```python
import tensorflow as tf

model = tf.saved_model.load(FOLDER)
images = tf.constant(images)  # uint8 [N, H, W, {serving.channels}], of any size; NumPy arrays would be cast to it
outputs = model.serve(images)
outputs["top_names"][:, 0], outputs["confidence"]
model.serve_bytes(tf.stack([tf.io.read_file(FILE)]))  # JPEG or PNG, each of its own size
model.embeddings(images)["embedding"]
```

TensorFlow alone is needed for it. TensorFlow Serving takes the folder above this one as a model's base path, and calls
`serve` by the name `serving_default` too.
"""
    return "\n".join([call, *_table(("signature", "input", "outputs"), rows), ""])


def _runtimes(reports: Mapping[str, Mapping[str, float]]) -> str:
    rows = []
    for name, report in reports.items():
        if "largest_difference" in report:
            said = f"probabilities to {report['largest_difference']:.0e}"
        else:
            said = (
                f"top-1 of {100 * report['top1_agreement']:.2f} % of the images, "
                f"ECE {100 * report['ece']:.2f} % for {100 * report['ece_of_the_saved_model']:.2f} %"
            )
        rows.append((f"`runtimes/{name}/`", f"{report['bytes'] / 1e6:.2f}", said))
    table = _table(("folder", "MB", "as the SavedModel"), rows)
    return "\n".join(["## Other runtimes\n\nWhat they return was compared on images of no training.\n", *table, ""])


def _shape(spec: tf.TensorSpec) -> str:
    known = iter("NHW")
    return "[" + ", ".join(next(known) if size is None else str(size) for size in spec.shape) + "]"


def _origin(experiment: Experiment, workdir: Workdir) -> str:
    rows = [
        ("run", workdir.path.resolve().name),
        *_code(workdir),
        ("with", f"TensorFlow {tf.__version__}, Keras {keras.__version__}"),
    ]
    if (checkpoint := workdir.imported_from()) is not None:
        rows.append(("made of", checkpoint))
    config = json.dumps(_without_places(experiment.config.as_dict()), indent=2)
    return "\n".join(["## Origin\n", *_table(("", ""), rows), "", "The run's config:\n", f"```json\n{config}\n```", ""])


def _without_places(value: Any) -> Any:
    """A config whose absolute paths are their last names: a SavedModel that is given away shall not tell them."""
    if isinstance(value, Mapping):
        return {key: _without_places(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_without_places(below) for below in value]
    is_place = isinstance(value, str) and pathlib.PurePath(value).is_absolute()
    return pathlib.PurePath(value).name if is_place else value


def _code(workdir: Workdir) -> list[tuple[str, str]]:
    """By which code the run was trained, which may have changed on the way, and by which it is exported."""
    exports, trained = provenance.code(), workdir.trained_by()
    if trained == [exports]:
        return [("trained and exported by", exports)]
    if workdir.imported_from() is not None:
        return [("exported by", exports)]
    return [("trained by", ", then ".join(trained) or NOT_KNOWN), ("exported by", exports)]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table in Markdown; what a name may have of its signs is written as text."""
    yield f"| {' | '.join(headings)} |"
    yield f"|{'|'.join(' --- ' for _ in headings)}|"
    for row in rows:
        yield f"| {' | '.join(_plain(text) for text in row)} |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
