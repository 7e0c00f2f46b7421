"""How every figure looks: colours that are told apart without colour vision, and the same bytes from the same data."""

import contextlib
import dataclasses
import functools
import pathlib
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec

import matplotlib.axes
import matplotlib.backends.backend_agg
import matplotlib.figure
import matplotlib.lines
import matplotlib.style
import numpy as np
from absl import logging

from cskd_tf.files import written_whole

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), without yellow, which is too pale for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oo", "**", "||", "-----", "OO", "||||||||")
GUIDE_COLOUR = "#6c757d"
NO_BREAK = "\N{NO-BREAK SPACE}"
_SETTINGS = {
    "font.family": ["DejaVu Sans"],  # which comes with matplotlib, so that it is never missing
    "font.size": 9,
    "text.parse_math": False,  # a class may be called a$b$c
    "axes.formatter.useoffset": False,  # an axis says what its values are, not how far they are from +2.306
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.titlesize": 11,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "cskd_tf",
}
_LEFT_OUT = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}  # of days and versions
Parameters = ParamSpec("Parameters")


@dataclasses.dataclass(frozen=True)
class Look:
    """How one of several is drawn.

    Attributes:
        colour: of line and area.
        line: style, as matplotlib takes it.
        marker: of points.
        hatch: of areas.
    """

    colour: str
    line: str | tuple
    marker: str
    hatch: str

    @property
    def of_lines(self) -> dict[str, Any]:
        """Keyword arguments of `Axes.plot`."""
        return {"color": self.colour, "linestyle": self.line, "linewidth": 1.6}

    @property
    def of_areas(self) -> dict[str, Any]:
        """Keyword arguments of `Axes.bar`."""
        return {"facecolor": self.colour, "edgecolor": "white", "hatch": self.hatch, "linewidth": 0.4}


def look(number: int) -> Look:
    """How the one with this number is drawn: the first 385 differ in colour, and the first 55 without it.

    Example:
        >>> look(0).colour, look(7).colour, look(0).line == look(7).line
        ('#0072B2', '#0072B2', False)
    """
    choices = (COLOURS, LINE_STYLES, MARKERS, HATCHES)
    return Look(*(each[number % len(each)] for each in choices))  # type: ignore[arg-type]


def line_handle(number: int) -> matplotlib.lines.Line2D:
    """What stands for the line with this number in a legend."""
    return matplotlib.lines.Line2D([], [], marker=look(number).marker, **look(number).of_lines)


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Within, matplotlib has the settings of these figures, and none of the user's."""
    with matplotlib.style.context(["default", _SETTINGS]):
        yield


def styled(
    draw: Callable[Parameters, matplotlib.figure.Figure],
) -> Callable[Parameters, matplotlib.figure.Figure]:
    """A function that draws, with `applied` around it."""

    @functools.wraps(draw)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> matplotlib.figure.Figure:
        with applied():
            return draw(*args, **kwargs)

    return wrapped


def new_figure(width: float, height: float, *, title: str) -> matplotlib.figure.Figure:
    """A figure of a size in inches, whose parts make room for each other."""
    figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(wrapped(title, characters=int(12 * width)))
    return figure


def panels(
    count: int, *, columns: int, size: tuple[float, float], title: str, below: float = 0.0
) -> tuple[matplotlib.figure.Figure, list[matplotlib.axes.Axes]]:
    """A figure with `count` axes in rows, each of `size` inches, and `below` inches more for a legend."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = new_figure(max(columns * size[0], 4.4), rows * size[1] + 0.5 + below, title=title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for empty in axes[count:]:
        empty.set_axis_off()
    return figure, axes[:count]


def legend_below(figure: matplotlib.figure.Figure, handles: Sequence, labels: Sequence[str], *, columns: int = 1):
    """One legend for all axes, under them; labels may be of any characters."""
    shown = [readable(label) for label in labels]
    return figure.legend(handles, shown, loc="outside lower center", ncols=columns, fontsize=8, handlelength=3.2)


def legend_height(labels: Sequence[str], *, columns: int = 1) -> float:
    """Inches that `legend_below` takes."""
    lines = max((readable(label).count("\n") + 1 for label in labels), default=0)
    return 0.19 * lines * -(-len(labels) // columns) + 0.1


def wrapped(text: str, *, characters: int) -> str:
    """Text in lines of at most so many characters."""
    lines = (textwrap.wrap(line, characters, break_long_words=True) or [""] for line in readable(text).split("\n"))
    return "\n".join(part for of_line in lines for part in of_line)


def unbroken(text: str) -> str:
    r"""Text that `wrapped` leaves in one line, as a value and its unit.

    Example:
        >>> unbroken("ECE 3 %")
        'ECE\xa03\xa0%'
    """
    return text.replace(" ", NO_BREAK)


def readable(text: str) -> str:
    r"""Text without control characters; matplotlib would leave out of a legend what begins with an underscore.

    No-break spaces stay.

    Example:
        >>> readable("_crow\tblack")
        ' _crow black'
    """
    text = "".join(each if each.isprintable() or each in ("\n", NO_BREAK) else " " for each in text)
    return f" {text}" if text.startswith("_") else text


def shortened(name: str, *, characters: int) -> str:
    """A name of at most so many characters, its middle left out: what tells names apart is often at their end.

    Example:
        >>> shortened("birds/Black_footed_Albatross", characters=17)
        'birds/Bl…lbatross'
    """
    name = readable(name).replace("\n", " ")
    if len(name) <= characters:
        return name
    end = (characters - 1) // 2
    return f"{name[: characters - 1 - end]}…{name[len(name) - end :]}"


def save(figure: matplotlib.figure.Figure, path: pathlib.Path) -> list[pathlib.Path]:
    """Writes a PNG of 150 dots per inch and an SVG beside it, each whole or not at all: `path` is without a suffix."""
    written = []
    with applied(), boxes_named(path.name):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # all has its place now, which takes longer than to draw it
        for kind, metadata in _LEFT_OUT.items():
            target = path.with_name(f"{path.name}.{kind}")
            with written_whole(target) as partial:
                figure.savefig(partial, format=kind, dpi=150, metadata=metadata)
            written.append(target)
    return written


def as_image(figure: matplotlib.figure.Figure) -> np.ndarray:
    """The figure at 100 dots per inch, as uint8 `[1, height, width, 3]`: what TensorBoard shows."""
    canvas = matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
    with applied(), boxes_named(None):
        figure.set_dpi(100)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[None, ..., :3].copy()


@contextlib.contextmanager
def boxes_named(name: str | None) -> Iterator[None]:
    """Says in one line which characters the font lacks, in place of a warning for each; without a name, nowhere."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    messages = [str(each.message) for each in caught]
    lacking = sorted({message.split("(")[1].split(")")[0] for message in messages if message.startswith("Glyph ")})
    if lacking and name:
        logging.warning("%s: boxes stand for characters that the font lacks: %s", name, ", ".join(lacking[:10]))
    for each in caught:
        if not str(each.message).startswith("Glyph "):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
