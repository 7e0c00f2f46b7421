"""Trains a Transformer on a corpus, and measures what it says of sentences that it was not trained on."""

from collections.abc import Sequence

import keras
import numpy as np

import cskd_tf
from cskd_tf.methods.base import Method
from examples.translation.corpus import Corpus
from examples.translation.decoding import bleu, greedy
from examples.translation.transformer import transformer


def trained(
    corpus: Corpus,
    methods: Sequence[Method],
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    **options,
) -> cskd_tf.SelfDistiller:
    """A model trained on the split `"train"`.

    Args:
        corpus: of sentence pairs.
        methods: beside cross-entropy.
        seed: of weights, order and dropout.
        epochs: of the training.
        batch_size: sentences.
        learning_rate: of Adam after the warm-up, a tenth of the steps; it then falls to 0 by half a cosine.
        **options: of `transformer`, other than the sizes that the corpus tells.
    """
    keras.utils.set_random_seed(seed)
    tokens, labels = corpus.arrays("train")
    network = transformer(
        source_words=len(corpus.english),
        target_words=len(corpus.german),
        source_length=corpus.source_length,
        target_length=corpus.target_length,
        **options,
    )
    model = cskd_tf.SelfDistiller(network, methods, sequences=True, num_examples=len(tokens))
    steps = epochs * -(-len(tokens) // batch_size)
    warm_up = steps // 10
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=learning_rate, warmup_steps=warm_up
    )
    model.compile(keras.optimizers.Adam(schedule, beta_2=0.98))
    inputs = {"image": tokens, "index": np.arange(len(tokens))}
    model.fit(inputs, labels, batch_size=batch_size, epochs=epochs, verbose=0)
    return model


def measured(model: cskd_tf.SelfDistiller, corpus: Corpus) -> dict[str, float]:
    """Of the split `"test"`: what the translations are worth, and the probabilities of a right one's words.

    Returns:
        `"bleu"`, a fraction, of greedy translations beside all references; `"nll"` in nats per word and `"ece"` of the
        first reference's words, each behind those before it.
    """
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
