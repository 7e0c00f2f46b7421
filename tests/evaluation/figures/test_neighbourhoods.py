import sys

import numpy as np
import pytest

from cskd_tf.evaluation.figures.neighbourhoods import INSTALL, MARKERS, chosen_images, project, scattered, spread
from tests.helpers import ROOT
from tests.selection import few


def clusters(count=30):
    """Three far apart, of `count` images each."""
    generator = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2], count)
    return generator.normal(size=(3 * count, 5)) + 40 * np.eye(5)[kinds], kinds


def test_near_images_stay_near_and_the_seed_decides(caplog):
    embeddings, kinds = clusters()
    with caplog.at_level("INFO", logger="absl"):
        places = project(embeddings, seed=1)
    assert "t-SNE of 90 images: perplexity 29.7, not 30" in caplog.text
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.diag([np.inf] * 90)
    np.testing.assert_array_equal(kinds[distances.argmin(axis=1)], kinds)
    np.testing.assert_array_equal(project(embeddings, seed=1), places)


@pytest.mark.parametrize(
    ("embeddings", "options", "message"),
    [
        (np.eye(4), {}, r"at least 5 images\. Received: shape \(4, 4\)"),
        (np.ones((9, 2)), {}, "embeddings that differ"),
        (np.full((9, 2), np.nan), {}, "finite embeddings"),
        (np.eye(9), {"perplexity": 0.5}, "perplexity of at least 1. Received: perplexity=0.5"),
    ],
)
def test_what_cannot_be_projected_is_refused(embeddings, options, message):
    with pytest.raises(ValueError, match=message):
        project(embeddings, **options)


def test_without_opentsne_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(ValueError, match=r"Expected openTSNE: pip install openTSNE==[\d.]+\. Received: "):
        project(np.eye(9))
    assert f"\n{INSTALL.split()[-1]};" in (ROOT / "requirements.txt").read_text()


def test_of_many_images_two_thousand_are_chosen():
    assert chosen_images(7).tolist() == list(range(7))
    chosen = chosen_images(5000)
    assert len(set(chosen.tolist())) == 2000
    np.testing.assert_array_equal(chosen, np.sort(chosen))
    np.testing.assert_array_equal(chosen, chosen_images(5000))


def test_points_stand_by_kind_in_a_panel_each():
    places = np.arange(12.0).reshape(6, 2)
    kinds = np.array([2, 0, 2, 0, 0, 2])
    figure = scattered([places, -places], names=["one", "two"], kinds=kinds, kind_names=["a", "b", "c"], title="t")
    for axis, points, name in zip(figure.axes, (places, -places), ("one", "two"), strict=True):
        assert axis.get_title() == name
        for number, kind in enumerate((0, 2)):  # b has no points
            np.testing.assert_array_equal(axis.collections[number].get_offsets(), points[kinds == kind])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "c"]


def test_kinds_differ_without_colour():
    handles = scattered([np.eye(11, 2)], names=[""], kinds=np.arange(11), kind_names="abcdefghijk", title="").legends
    assert [handle.get_marker() for handle in handles[0].legend_handles] == list(MARKERS)


def test_many_kinds_have_numbers_at_their_images_and_names_beside_these_below():
    """Markers and colours no longer tell them apart."""
    places, kinds = 10.0 * np.stack(np.divmod(np.arange(60), 6), axis=1), np.arange(60) % 30
    names = [f"kind {letter}" for letter in "zyxwvutsrqponmlkjihgfedcba9876"]
    figure = scattered([places, -places], names=["", ""], kinds=kinds, kind_names=names, title="")
    expected = [str(number) for number in range(1, 31)]
    for axis in figure.axes:
        assert [text.get_text() for text in axis.texts] == expected
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"{number} {name}" for number, name in zip(expected, names, strict=True)
    ]
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().y1 <= min(axis.bbox.y0 for axis in figure.axes)


def test_more_kinds_than_can_be_told_apart_are_refused():
    options = {"names": [""], "kind_names": ["a"] * 251, "title": ""}
    with pytest.raises(ValueError, match=r"at most 250 classes or groups, .*Received: 251"):
        scattered([np.zeros((251, 2))], kinds=np.arange(251), **options)


def names_of(kinds, kind_names, *, places):
    """Names that stand in a panel, and their places."""
    (axis,) = scattered([places], names=[""], kinds=kinds, kind_names=kind_names, title="").axes
    return {text.get_text(): np.array(text.get_position()) for text in axis.texts}


def test_a_name_stands_at_the_image_nearest_to_the_median():
    """Of a: mean (3.5, 2) and median (1, 1) are where no image of it is; of b one image alone."""
    places = np.array([[0.0, 0], [1, 0], [1, 2.5], [12, 5.5], [20, 20]])
    shown = names_of(np.array([0, 0, 0, 0, 1]), ["a", "b"], places=places)
    assert shown.keys() == {"a", "b"}
    np.testing.assert_allclose(shown["a"], [1, 0])


@pytest.mark.thorough
def test_all_names_are_written_apart_within_the_panel():
    names = [f"a long name {number}" for number in range(24)]
    for places in (np.zeros((48, 2)), np.random.default_rng(0).normal(size=(48, 2))):
        shown = names_of(np.arange(48) % 24, names, places=places)
        assert len(shown) == 24
    sizes = np.tile([13 / 55, 1 / 22], (24, 1))
    centres = spread(np.full((24, 2), 0.99), sizes=sizes)
    assert (centres - sizes / 2 > -1e-9).all()
    assert (centres + sizes / 2 < 1 + 1e-9).all()
    apart = np.abs(centres[:, None] - centres) >= sizes - 1e-6
    assert (apart.any(axis=-1) | np.eye(24, dtype=bool)).all()


@pytest.mark.thorough
def test_long_names_of_wide_letters_are_whole_within_the_panel():
    names = [f"n{number:03}_wigwam_MMM_{number}" for number in range(20)]
    figure = scattered([np.random.default_rng(0).normal(size=(40, 2))] * 2, names=["", "a\nb\nc"],
                       kinds=np.arange(40) % 20, kind_names=names, title="")  # fmt: skip
    figure.draw_without_rendering()
    for axis in figure.axes:
        frame, boxes = axis.get_window_extent(), [text.get_window_extent() for text in axis.texts]
        assert len(boxes) == 20
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)


def test_a_line_leads_from_a_name_that_is_moved_to_its_image():
    places = np.array([[0, 0], [0, 0], [9, 9], [-9, 9], [-9, -9], [9, -9]])
    figure = scattered([places], names=[""], kinds=np.arange(6) % 2, kind_names=["a", "b"], title="")
    (axis,) = figure.axes
    for line, text in zip(axis.get_lines(), axis.texts, strict=True):
        np.testing.assert_allclose(line.get_xydata(), [[0, 0], text.get_position()], atol=1e-12)
    first, second = (text.get_position() for text in axis.texts)
    assert first == pytest.approx((0, 0))
    assert np.linalg.norm(second) > 1e-3


def test_a_name_covers_no_images_where_it_would_cover_most_of_its_kind():
    near = np.random.default_rng(0).uniform(-0.01, 0.01, size=(20, 2))
    places = np.concatenate([near, near + np.array([0.3, 0.0]), [[-1, -1], [0, 2], [1, 1]]])
    kinds = np.repeat([0, 1, 2], [20, 20, 3])
    figure = scattered([places], names=[""], kinds=kinds, kind_names=["one", "two", "far"], title="")
    (axis,) = figure.axes
    for text in axis.texts[:2]:
        box = axis.transData.inverted().transform(text.get_window_extent().get_points())
        assert not ((places[:40] > box[0]) & (places[:40] < box[1])).all(axis=1).any()


def test_one_class_is_drawn():
    assert names_of(np.zeros(6, int), ["only"], places=np.arange(12.0).reshape(6, 2)).keys() == {"only"}


@pytest.mark.parametrize("name", few(["", "a name of many letters "], 1))
def test_the_legend_of_a_single_panel_is_within_the_figure(name):
    names = [f"{name}{number:02}" for number in range(24)]
    figure = scattered([np.eye(24, 2)], names=[""], kinds=np.arange(24), kind_names=names, title="")
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
