"""How often CS-KD's loss runs to NaN on few images, plain and with the recipes against it.

    python -m benchmarks.divergence [--weight=3 ...] [--config.KEY=VALUE ...]

Digits with 30 training images per class by default (`--config=configs/NAME.py`), several seeds, the first epochs; a
JSON line per weight and recipe, with the steps at which runs diverged and the mean loss of the last epoch of
the others.
"""

from cskd_tf.runs import experiment
from cskd_tf.runs.config import Config
from cskd_tf.training import callbacks  # before TensorFlow, whose kernels it chooses

# isort: split
import keras
from absl import app, flags
from ml_collections import config_flags

from benchmarks.results import record

CONFIG = config_flags.DEFINE_config_file("config", "configs/digits.py", "As of train_main.py.")
WEIGHT = flags.DEFINE_multi_float("weight", [1.0, 3.0], "Weights of CS-KD.")
SEEDS = flags.DEFINE_integer("seeds", 5, "Runs per line.")
EPOCHS = flags.DEFINE_integer("first_epochs", 10, "Epochs to train of config.epochs.")
RECIPES = {
    "none": {},
    "warm-up of 5 epochs": {"schedule.warmup_epochs": 5},
    "gradients clipped to norm 1": {"optimizer.clip_norm": 1.0},
}
RECIPE = flags.DEFINE_multi_enum("recipe", list(RECIPES), list(RECIPES), "Which recipes.")


def run(config) -> tuple[int | None, float]:
    """The step at which the loss was no longer finite, and the last epoch's loss."""
    keras.utils.clear_session()
    built = experiment.prepare(Config.read(config))
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    data = built.training_data()
    try:
        history = built.model.fit(data, epochs=EPOCHS.value, verbose=0, callbacks=[count, callbacks.StopOnNaN()])
    except FloatingPointError:
        return len(steps), float("nan")
    return None, history.history["loss"][-1]


def main(argv):
    del argv
    for weight in WEIGHT.value:
        for recipe in RECIPE.value:
            results = []
            for seed in range(SEEDS.value):
                config = CONFIG.value.copy_and_resolve_references()
                config.baseline, config.seed, config.deterministic = False, seed, False
                config.methods = ({"name": "CSKD", "temperature": 4.0, "weight": weight},)
                config.update_from_flattened_dict(RECIPES[recipe])
                results.append(run(config))
            finite = [loss for step, loss in results if step is None]
            line = {
                "benchmark": "divergence",
                "data": CONFIG.value.data.source.name,
                "network": CONFIG.value.network.name,
                "learning_rate": CONFIG.value.schedule.learning_rate,
                "weight": weight,
                "recipe": recipe,
                "seeds": SEEDS.value,
                "diverged": len(results) - len(finite),
                "at_steps": [step for step, _ in results if step is not None],
                "mean_loss": round(sum(finite) / len(finite), 3) if finite else None,
            }
            record("divergence", line)


if __name__ == "__main__":
    app.run(main)
