"""BLEU of a small Transformer with cross-entropy, label smoothing and PS-KD, in kind Table 6 of the PS-KD paper.

`python -m examples.translation` draws sentence pairs from a grammar, trains each method with each seed, prints a table
and writes `results/translation.json`. The corpus is synthetic, and the same for all seeds, which are of weights, order
and dropout; BLEU is sacrebleu's, of greedy translations of sentences that were not trained on.
"""

import keras
import numpy as np
import rich.table
from absl import app, flags

import cskd_tf
from benchmarks.results import record
from benchmarks.seeded_runs import summed_up
from cskd_tf.methods import PSKD, LabelSmoothing
from examples.translation import language
from examples.translation.corpus import Corpus
from examples.translation.decoding import bleu, greedy
from examples.translation.transformer import transformer

ALPHA = flags.DEFINE_float("alpha", 0.7, "PS-KD's, of the last epoch.")
SOURCE = flags.DEFINE_enum("source", "stored", ["stored", "network"], "Where PS-KD's predictions come from.")
EPSILON = flags.DEFINE_float("epsilon", 0.1, "Of label smoothing.")
EPOCHS = flags.DEFINE_integer("epochs", 80, "Of each training.")
SEEDS = flags.DEFINE_integer("seeds", 3, "How many, from 0.")
SENTENCES = flags.DEFINE_integer("sentences", 500, "To train on.")
TEST_SENTENCES = flags.DEFINE_integer("test_sentences", 500, "To test on.")
REFERENCES = flags.DEFINE_integer("references", 4, "Right translations of each test sentence.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Sentences.")
LEARNING_RATE = flags.DEFINE_float("learning_rate", 2e-3, "After the warm-up; it falls to 0 by half a cosine.")
RECORD = flags.DEFINE_string("record", "translation", "Name of the file in results/.")


def methods() -> dict[str, list]:
    """What is compared, made anew."""
    return {
        "cross-entropy": [],
        f"LabelSmoothing(epsilon={EPSILON.value:g})": [LabelSmoothing(epsilon=EPSILON.value)],
        f"PSKD(alpha={ALPHA.value:g}, source={SOURCE.value!r})": [PSKD(alpha=ALPHA.value, source=SOURCE.value)],
    }


def trained(corpus: Corpus, chosen: list, *, seed: int) -> cskd_tf.SelfDistiller:
    """A model trained on the corpus with these methods."""
    keras.utils.set_random_seed(seed)
    tokens, labels = corpus.arrays("train")
    network = transformer(
        source_words=len(corpus.english),
        target_words=len(corpus.german),
        source_length=corpus.source_length,
        target_length=corpus.target_length,
    )
    model = cskd_tf.SelfDistiller(network, chosen, sequences=True, num_examples=len(tokens))
    steps = EPOCHS.value * -(-len(tokens) // BATCH_SIZE.value)
    warm_up = steps // 10
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=LEARNING_RATE.value, warmup_steps=warm_up
    )
    model.compile(keras.optimizers.Adam(schedule, beta_2=0.98))
    inputs = {"image": tokens, "index": np.arange(len(tokens))}
    model.fit(inputs, labels, batch_size=BATCH_SIZE.value, epochs=EPOCHS.value, verbose=0)
    return model


def measured(model: cskd_tf.SelfDistiller, corpus: Corpus) -> dict[str, float]:
    """BLEU of translations, and NLL and ECE of the words of a right one, each behind those before it."""
    hypotheses = corpus.german.decode(greedy(model.network, corpus.sources("test"), length=corpus.target_length))
    references = [[" ".join(words) for words in pair.german] for pair in corpus.splits["test"]]
    tokens, labels = corpus.arrays("test")
    counts = labels >= 0
    logits, labels = model.predict(tokens, batch_size=256, verbose=0)[counts], labels[counts]
    return {
        "bleu": bleu(hypotheses, references),
        "nll": cskd_tf.metrics.negative_log_likelihood(logits, labels),
        "ece": cskd_tf.metrics.expected_calibration_error(logits, labels),
    }


def main(argv):
    del argv
    counts = SENTENCES.value, TEST_SENTENCES.value
    train, test = language.pairs(counts, references=(1, REFERENCES.value), seed=0)
    corpus = Corpus.of({"train": train, "test": test})
    settings = {
        "epochs": EPOCHS.value,
        "sentences": len(train),
        "references": REFERENCES.value,
        "test_sentences": len(test),
    }
    found: dict[str, list[dict]] = {}
    for seed in range(SEEDS.value):
        for name, chosen in methods().items():
            values = measured(trained(corpus, chosen, seed=seed), corpus)
            record(RECORD.value, {"methods": name, "seed": seed, **values, **settings})
            found.setdefault(name, []).append(values)
    lines = [
        {"methods": name, "runs": len(runs), **{key: summed_up([run[key] for run in runs]) for key in runs[0]}}
        for name, runs in found.items()
    ]
    record(RECORD.value, [{**line, **settings} for line in lines])
    rich.print(table(lines))


def table(lines: list[dict]) -> rich.table.Table:
    """BLEU in per cent, as in the paper; NLL in nats per word, ECE in per cent."""
    made = rich.table.Table("methods", "BLEU", "NLL", "ECE %")
    for line in lines:
        cells = [(100, 1, line["bleu"]), (1, 3, line["nll"]), (100, 2, line["ece"])]
        spreads = [
            f"{factor * value['mean']:.{places}f}"
            + ("" if value["deviation"] is None else f" ± {factor * value['deviation']:.{places}f}")
            for factor, places, value in cells
        ]
        made.add_row(line["methods"], *spreads)
    return made


if __name__ == "__main__":
    app.run(main)
