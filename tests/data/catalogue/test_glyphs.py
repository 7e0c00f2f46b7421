import matplotlib
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data.catalogue.glyphs import CHARACTERS, FONTS, glyphs
from tests.helpers import load_splits

SPLIT = {"channels": 1, "test_fraction": 0.5, "validation_fraction": 0.3, "train_per_class": 5}


def test_every_character_is_there_in_every_font_and_all_images_differ():
    source = glyphs()
    images = source.load(tf.range(len(source.labels), dtype=tf.int64)).numpy()
    assert images.shape == (len(CHARACTERS) * len(FONTS), 24, 24, 1)
    assert np.bincount(source.labels).tolist() == [len(FONTS)] * len(CHARACTERS)
    assert (images.max(axis=(1, 2, 3)) > 128).all()
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert (border == 0).mean() > 0.99  # what is drawn lies within
    # The same character in two fonts may be the same picture; two characters in one font must not be.
    for font in range(len(FONTS)):
        assert len(np.unique(images[font :: len(FONTS)].reshape(len(CHARACTERS), -1), axis=0)) == len(CHARACTERS)
    assert source.locate(len(FONTS)) == f"{CHARACTERS[1]} in {FONTS[0]}"


def test_fonts_are_split_by_class():
    splits = load_splits("fonts", **SPLIT)
    assert {name: len(source.labels) // 50 for name, source in splits.items()} == {"train": 5, "val": 3, "test": 10}
    assert splits["test"].class_names == list(CHARACTERS)


def test_missing_fonts_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(ValueError, match="with its fonts.*Received: .* without .*DejaVuSans"):
        glyphs()
