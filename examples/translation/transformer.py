"""The encoder-decoder Transformer (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762), of Keras' own layers."""

import math

import keras
import numpy as np

from examples.translation.corpus import PADDING


def transformer(
    *,
    source_words: int,
    target_words: int,
    source_length: int,
    target_length: int,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    hidden: int = 128,
    dropout: float = 0.1,
) -> keras.Model:
    """From a source and the target before each position to logits of the target's words.

    `SelfDistiller` runs networks of one input; so source and target stand behind each other in one row, and are parted
    inside. Padding of the source is masked, and what stands behind a target's position is no part of its attention.

    Args:
        source_words: of the vocabulary.
        target_words: of the vocabulary: the classes.
        source_length: positions of the source.
        target_length: positions of the target.
        layers: of the encoder, and of the decoder.
        width: of embeddings and of what layers pass on.
        heads: of each attention.
        hidden: width inside the feed-forward layers.
        dropout: share of units.

    Returns:
        A model from int32 `[B, source_length + target_length]` to logits `[B, target_length, target_words]`.
    """
    tokens = keras.Input((source_length + target_length,), dtype="int32")
    source, target = tokens[:, :source_length], tokens[:, source_length:]
    mask = keras.ops.expand_dims(keras.ops.not_equal(source, PADDING), axis=1)

    def embedded(words, count: int, length: int):
        embeddings = keras.layers.Embedding(count, width, embeddings_initializer="glorot_normal")(words)
        return keras.layers.Dropout(dropout)(embeddings * math.sqrt(width) + positions(length, width=width))

    def added(values, more):
        return keras.layers.LayerNormalization(epsilon=1e-5)(values + keras.layers.Dropout(dropout)(more))

    def attended(values, **options):
        attention = keras.layers.MultiHeadAttention(heads, width // heads, dropout=dropout)
        return added(values, attention(values, **options))

    def fed_forward(values):
        return added(values, keras.layers.Dense(width)(keras.layers.Dense(hidden, activation="relu")(values)))

    encoded = embedded(source, source_words, source_length)
    for _ in range(layers):
        encoded = fed_forward(attended(encoded, value=encoded, attention_mask=mask))
    decoded = embedded(target, target_words, target_length)
    for _ in range(layers):
        decoded = attended(decoded, value=decoded, use_causal_mask=True)
        decoded = fed_forward(attended(decoded, value=encoded, attention_mask=mask))
    return keras.Model(tokens, keras.layers.Dense(target_words)(decoded), name="transformer")


def positions(length: int, *, width: int) -> np.ndarray:
    """Sines and cosines of each position, float32 `[1, length, width]` (section 3.5 of the paper)."""
    rates = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.arange(length)[:, None] * rates
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(1, length, width).astype("float32")
