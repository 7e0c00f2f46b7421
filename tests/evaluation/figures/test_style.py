import xml.dom.minidom

import matplotlib
import numpy as np
import pytest
from PIL import Image

from cskd_tf.evaluation.figures import style
from cskd_tf.runs.subjects import NAMES
from tests.helpers import ROOT


def figure_of(title, labels=("a", "b")):
    with style.applied():
        figure = style.new_figure(4, 3, title=title)
        axes = figure.subplots()
        for number in range(len(labels)):
            axes.plot([0, 1], [number, 1], **style.look(number).of_lines)
        style.legend_below(figure, [style.line_handle(number) for number in range(len(labels))], labels)
    return figure


def test_files_are_whole_valid_and_the_same_every_time(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        written = style.save(figure_of("a < b & $c$"), tmp_path / folder / "v1.0")
        assert [path.name for path in written] == ["v1.0.png", "v1.0.svg"]
        assert sorted(written) == sorted((tmp_path / folder).iterdir())
    one, two = ([path.read_bytes() for path in sorted((tmp_path / folder).iterdir())] for folder in ("one", "two"))
    assert one == two
    assert xml.dom.minidom.parseString(one[1]).documentElement.tagName == "svg"
    assert b"<dc:date>" not in one[1]
    with Image.open(tmp_path / "one" / "v1.0.png") as image:
        assert image.size == (600, 450)


def test_the_image_for_tensorboard_has_a_hundred_dots_per_inch():
    image = style.as_image(figure_of("digits"))
    assert (image.shape, image.dtype) == ((1, 300, 400, 3), np.uint8)
    assert 0 < np.mean(image != 255) < 0.2


def test_looks_differ_with_colour_and_without():
    looks = [style.look(number) for number in range(50)]
    assert len({(look.line, look.marker) for look in looks}) == 50
    assert len({(look.colour, look.line) for look in looks[:35]}) == 35
    assert len({look.hatch for look in looks[:NAMES]}) == NAMES  # as many as there are in a figure


def test_the_users_settings_and_missing_fonts_change_nothing(tmp_path):
    plain = style.as_image(figure_of("digits"))
    with matplotlib.rc_context({"font.family": "No Such Font", "lines.linewidth": 9, "text.usetex": True}):
        np.testing.assert_array_equal(style.as_image(figure_of("digits")), plain)


def test_characters_that_the_font_lacks_are_named_in_one_line(caplog, tmp_path):
    style.save(figure_of("犬 dog", labels=("猫", "b")), tmp_path / "animals")
    (message,) = caplog.messages
    assert message.startswith("animals: boxes stand for characters that the font lacks: ")
    assert "72AC" in message
    assert "732B" in message


def test_labels_of_any_characters_are_in_the_legend():
    figure = figure_of("", labels=("_hidden", "a$b$\tc"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [" _hidden", "a$b$ c"]


@pytest.mark.parametrize("characters", [5, 8, 12])
def test_names_are_shortened_in_their_middle(characters):
    short = style.shortened("beginning and end", characters=characters)
    assert len(short) == characters
    assert short[0] == "b"
    assert short[-1] == "d"
    assert style.shortened("short", characters=5) == "short"


def test_nothing_asks_for_a_display():
    assert not [path for path in (ROOT / "cskd_tf").rglob("*.py") if "pyplot" in path.read_text()]
