"""Translations by a trained network, and what they are worth."""

from collections.abc import Sequence

import keras
import numpy as np
import sacrebleu
import tensorflow as tf

from examples.translation.corpus import BEGIN, END, PADDING


def greedy(network: keras.Model, sources: np.ndarray, *, length: int) -> np.ndarray:
    """The most probable word after those before it, position by position.

    Args:
        network: as `transformer`.
        sources: int32 `[N, source_length]`.
        length: positions of a target.

    Returns:
        int32 `[N, length]`: words, the end, padding.
    """

    @tf.function(autograph=False)
    def chosen(tokens, position):
        logits = network(tokens, training=False)
        return tf.argmax(tf.gather(logits, position, axis=1), axis=-1, output_type=tf.int32)

    entered = np.full((len(sources), length + 1), PADDING, np.int32)
    entered[:, 0] = BEGIN
    going = np.ones(len(sources), bool)
    for position in range(length):
        tokens = np.concatenate([sources, entered[:, :-1]], axis=1)
        words = chosen(tf.constant(tokens), tf.constant(position)).numpy()
        entered[:, position + 1] = np.where(going, words, PADDING)
        going &= words != END
    return entered[:, 1:]


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU of words between spaces, as a fraction.

    Args:
        hypotheses: a translation of each sentence.
        references: right translations of each sentence, as many of each.
    """
    metric = sacrebleu.BLEU(tokenize="none")
    return metric.corpus_score(list(hypotheses), [list(each) for each in zip(*references, strict=True)]).score / 100
