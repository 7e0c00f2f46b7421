"""BLEU of a small Transformer with cross-entropy, label smoothing and PS-KD, in kind Table 6 of the PS-KD paper.

`python -m examples.translation` draws sentence pairs from a grammar, trains each method with each seed, prints a table
and writes `results/translation.json`. The corpus is synthetic, and the same for all seeds, which are of weights, order
and dropout; BLEU is sacrebleu's, of greedy translations of sentences that were not trained on.
"""

import rich.table
from absl import app, flags

from benchmarks.results import record
from benchmarks.seed_tables import TRANSLATION_COLUMNS, translation_rows
from cskd_tf.methods import PSKD, LabelSmoothing
from cskd_tf.runs import printing
from examples.translation import language
from examples.translation.corpus import Corpus
from examples.translation.training import measured, trained

ALPHA = flags.DEFINE_float("alpha", 0.7, "PS-KD's, of the last epoch.")
SOURCE = flags.DEFINE_enum("source", "stored", ["stored", "network"], "Where PS-KD's predictions come from.")
EPSILON = flags.DEFINE_float("epsilon", 0.1, "Of label smoothing.")
EPOCHS = flags.DEFINE_integer("epochs", 150, "Of each training.")
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


def main(argv):
    del argv
    counts = SENTENCES.value, TEST_SENTENCES.value
    train, test = language.pairs(counts, references=(1, REFERENCES.value), seed=0)
    corpus = Corpus.of({"train": train, "test": test})
    options = {"epochs": EPOCHS.value, "batch_size": BATCH_SIZE.value, "learning_rate": LEARNING_RATE.value}
    settings = {
        **options,
        "sentences": len(train),
        "references": REFERENCES.value,
        "test_sentences": len(test),
    }
    lines = []
    for seed in range(SEEDS.value):
        for name, chosen in methods().items():
            values = measured(trained(corpus, chosen, seed=seed, **options), corpus)
            lines.append({"methods": name, "seed": seed, **values, **settings})
            record(RECORD.value, lines[-1])  # at once: an interrupted command leaves what it had measured
    printing.show(printing.console(), table(lines))


def table(lines: list[dict]) -> rich.table.Table:
    """Mean and deviation over the seeds: BLEU and ECE in per cent, NLL in nats per word."""
    made = printing.table("Means over the seeds", ["methods", *(column[0] for column in TRANSLATION_COLUMNS)])
    for row in translation_rows(lines):
        made.add_row(*row)
    return made


if __name__ == "__main__":
    app.run(main)
