"""Draws which room of the package imports which: `python docs/draw_layers.py` writes docs/layers.svg.

    python docs/draw_layers.py [--package PATH] [--output FILE.svg|png]

The imports are read from the source, so nothing of the package is loaded. A room stands on the first floor above
everything that it imports; a room that most others import is the ground they stand on, drawn without its arrows. The
number of the imports of every pair of rooms is printed, and stands in an SVG as its description: by it a picture is
known to be of these imports, as its bytes differ from machine to machine.
"""

import argparse
import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence

import layers
import matplotlib
import matplotlib.patches
import matplotlib.path
import matplotlib.pyplot as plt

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLUE, GREEN, TEAL, VIOLET, ORANGE, GREY = "#dbe9f9", "#dff1dc", "#d3efec", "#e8e0f7", "#fde6cf", "#eceff2"
INK, QUIET, CYCLE = "#1f2933", "#7b8794", "#c81e1e"
DIRECT, IMPLIED = ("#52606d", 1.4), ("#c3cad2", 0.9)  # colour and width of an arrow


@dataclasses.dataclass(frozen=True)
class Look:
    """How a room is drawn: what stands under its name, its colour, and its place from left (0) to right (10)."""

    words: str
    colour: str
    place: float


ROOMS = {
    "errors": Look("what a user can mend", GREY, 5.0),
    "files": Look("whole or not at all", GREY, 2.7),
    "settings": Look("checked values", GREY, 4.4),
    "checks": Look("of arguments", GREY, 6.6),
    "kernels": Look("oneDNN on or off", GREY, 9.3),
    "losses": Look("the formulas", VIOLET, 6.05),
    "networks": Look("images to logits", VIOLET, 7.7),
    "evaluation": Look("metrics, figures", TEAL, 4.45),
    "data.images": Look("decode, transform", GREEN, 1.05),
    "data.sources": Look("where images are", GREEN, 1.05),
    "data.catalogue": Look("data sets by name", GREEN, 1.05),
    "data.batches": Look("partners, batches", GREEN, 3.05),
    "methods": Look("CS-KD, PS-KD, ...", BLUE, 6.7),
    "training": Look("SelfDistiller, fit", BLUE, 5.7),
    "serving": Look("SavedModels, clients", ORANGE, 5.7),
    "runs": Look("one verb each", ORANGE, 3.7),
}
WIDTH, HEIGHT, STEP = 1.56, 0.62, 1.12  # of a room, and from floor to floor


def _places(found: Mapping[str, int]) -> dict[str, float]:
    """Middles of the rooms, from left to right; those of one floor that would overlap move apart."""
    places = {}
    for floor in set(found.values()):
        wishes = sorted((ROOMS[room].place if room in ROOMS else 5.0, room) for room in found if found[room] == floor)
        taken: list[float] = []
        for wish, _ in wishes:
            taken.append(max(wish, taken[-1] + WIDTH + 0.12) if taken else wish)
        moved = sum(place - wish for place, (wish, _) in zip(taken, wishes, strict=True)) / len(taken)
        moved = min(moved, taken[0] - WIDTH / 2 - 0.2)
        places.update({room: place - moved for place, (_, room) in zip(taken, wishes, strict=True)})
    return places


def _right(places: Mapping[str, float]) -> float:
    """Where the floors end."""
    return max(10.2, *(place + WIDTH / 2 + 0.2 for place in places.values()))


def _gaps(floor: int, found: Mapping[str, int], places: Mapping[str, float]) -> list[tuple[float, float]]:
    """Where a line may pass a floor, between its rooms."""
    edges = sorted(places[room] for room in found if found[room] == floor)
    starts = [0.0, *(place + WIDTH / 2 + 0.13 for place in edges)]
    ends = [*(place - WIDTH / 2 - 0.13 for place in edges), _right(places) + 0.2]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start <= end]


def _routes(
    edges: Sequence[tuple[str, str]], found: Mapping[str, int], places: Mapping[str, float]
) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """The points of each arrow from top to bottom: out of a room, past the floors between, and into the other."""
    bends: dict[tuple[str, str], dict[int, float]] = {edge: {} for edge in edges}
    for floor in range(max(found.values()), 0, -1):
        lanes = collections.defaultdict(list)
        for upper, lower in edges:
            if not found[lower] < floor < found[upper]:
                continue
            above = bends[upper, lower].get(floor + 1, places[upper])
            wish = above + (places[lower] - above) / (floor + 1 - found[lower])
            gap = min(_gaps(floor, found, places), key=lambda each: max(each[0] - wish, wish - each[1]))
            lanes[gap].append((min(max(wish, gap[0]), gap[1]), places[lower], (upper, lower)))
        for (start, end), lines in lanes.items():
            lines.sort()
            distance = min(0.16, (end - start) / max(len(lines) - 1, 1))
            middle = sum(line[0] for line in lines) / len(lines)
            half = distance * (len(lines) - 1) / 2
            middle = min(max(middle, start + half), end - half)
            for number, (_, _, edge) in enumerate(lines):
                bends[edge][floor] = middle - half + number * distance
    out, into = collections.defaultdict(list), collections.defaultdict(list)
    for upper, lower in edges:
        passed = [bends[upper, lower][floor] for floor in range(found[upper] - 1, found[lower], -1)]
        out[upper].append(((passed or [places[lower]])[0], lower))
        into[lower].append(((passed or [places[upper]])[-1], upper))

    def port(room: str, ends: list[tuple[float, str]], other: str) -> float:
        order = [name for _, name in sorted(ends)]
        return places[room] + WIDTH * 0.8 * ((order.index(other) + 0.5) / len(order) - 0.5)

    routes = {}
    for upper, lower in edges:
        points = [(port(upper, out[upper], lower), found[upper] * STEP - HEIGHT / 2)]
        for floor in range(found[upper] - 1, found[lower], -1):
            bend = bends[upper, lower][floor]
            points += [(bend, floor * STEP + HEIGHT / 2), (bend, floor * STEP - HEIGHT / 2)]
        points.append((port(lower, into[lower], upper), found[lower] * STEP + HEIGHT / 2))
        routes[upper, lower] = points
    return routes


def _curve(points: Sequence[tuple[float, float]]) -> matplotlib.path.Path:
    """Through all points, upright at each."""
    vertices, codes = [points[0]], [matplotlib.path.Path.MOVETO]
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        bend = (y - to_y) * 0.5
        vertices += [(x, y - bend), (to_x, to_y + bend), (to_x, to_y)]
        codes += [matplotlib.path.Path.CURVE4] * 3
    return matplotlib.path.Path(vertices, codes)


def _legend(axes, package: layers.Package, *, y: float) -> None:
    files = sum(len(modules) for modules in package.files.values())
    total = sum(sum(others.values()) for others in package.imports.values())
    words = (f"{files} files, {total} imports between rooms", "imports", "imports, as those below it do already")
    for number, (text, look) in enumerate(zip(words, (None, DIRECT, IMPLIED), strict=True)):
        height = y - 0.24 * number
        if look:
            axes.plot([7.35, 7.8], [height] * 2, color=look[0], linewidth=look[1])
        axes.text(7.9 if look else 7.35, height, text, color=INK, size=7.8, va="center")


def draw(package: layers.Package, output: pathlib.Path) -> None:
    """Writes the picture, in the format that the file's name ends in."""
    imports = package.imports
    importers = {room: [other for other in imports if room in imports[other]] for room in imports}
    ground = {room for room in imports if len(importers[room]) > len(imports) / 2 and not imports[room]}
    found = layers.floors(imports, ground=ground)
    places = _places(found)
    reached = {room: layers.reached(room, imports) for room in imports}
    edges = [(room, other) for room in imports for other in imports[room] if other not in ground]
    circles = [(upper, lower) for upper, lower in edges if upper in reached[lower]]
    lowest, highest, right = min(found.values()), max(found.values()), _right(places)
    bottom, top = lowest * STEP - 0.55, highest * STEP + 0.5

    figure, axes = plt.subplots(figsize=(0.87 * (right + 0.4), 0.78 * (top - bottom)), layout="constrained")
    axes.set(xlim=(-0.1, right + 0.3), ylim=(bottom, top))
    axes.axis("off")
    for floor in range(lowest, highest + 1):
        ground_line = floor * STEP - HEIGHT / 2 - 0.035
        axes.plot([-0.1, right + 0.3], [ground_line] * 2, color="#e4e7eb", linewidth=0.8, zorder=0)
        axes.text(-0.08, ground_line + 0.05, str(floor), color=QUIET, size=7.2, zorder=0)
    for (upper, lower), points in _routes([edge for edge in edges if edge not in circles], found, places).items():
        # What follows from other arrows is drawn, but quietly.
        implied = any(lower in reached[other] for other in imports[upper] if other != lower)
        colour, width = IMPLIED if implied else DIRECT
        style = matplotlib.patches.ArrowStyle("-|>", head_length=4.2, head_width=2.2)
        arrow = matplotlib.patches.FancyArrowPatch(
            path=_curve(points), arrowstyle=style, color=colour, linewidth=width, zorder=1 if implied else 2
        )
        arrow.set_capstyle("butt")
        axes.add_patch(arrow)
    for upper, lower in circles:
        axes.annotate(
            "",
            (places[lower], found[lower] * STEP),
            (places[upper], found[upper] * STEP),
            arrowprops={"arrowstyle": "-|>", "color": CYCLE, "linewidth": 1.6, "connectionstyle": "arc3,rad=0.25"},
            zorder=1,
        )
    for room, floor in found.items():
        look = ROOMS.get(room, Look("", GREY, 0.0))
        wide = room in ground and len(ground) == 1
        left, width = (0.2, right - 0.2) if wide else (places[room] - WIDTH / 2, WIDTH)
        box = matplotlib.patches.FancyBboxPatch(
            (left, floor * STEP - HEIGHT / 2),
            width,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.09",
            facecolor=look.colour,
            edgecolor=INK,
            linewidth=0.9,
            zorder=3,
        )
        axes.add_patch(box)
        used = sum(imports[other][room] for other in importers[room])
        counts = layers.count(len(package.files[room]), "file") + (f", imported {used}x" if used else "")
        middle, y = left + width / 2, floor * STEP
        lines = [(0.155, room, INK, 10, "bold"), (-0.045, look.words, INK, 7.8, "normal")]
        lines.append((-0.215, counts, QUIET, 7.2, "normal"))
        if room in ground:
            lines[1] = (-0.045, f"{look.words}; {len(importers[room])} rooms stand on it", INK, 7.8, "normal")
        for offset, text, colour, size, weight in lines:
            axes.text(
                middle, y + offset, text, ha="center", va="center", color=colour, size=size, weight=weight, zorder=4
            )
    _legend(axes, package, y=top - 0.29)
    described = {"Date": None, "Creator": None, "Description": "\n".join(layers.listing(package))}
    figure.savefig(output, metadata=described if output.suffix == ".svg" else {}, dpi=100, facecolor="white")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=pathlib.Path, default=ROOT / "cskd_tf", help="Folder of the package.")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "layers.svg", help="An .svg or a .png.")
    options = parser.parse_args()
    matplotlib.rcdefaults()
    matplotlib.use("agg")
    matplotlib.rcParams.update({"svg.hashsalt": "cskd_tf", "font.family": "DejaVu Sans"})
    package = layers.Package(options.package.resolve(), ROOMS)
    draw(package, options.output)
    print("\n".join(layers.listing(package)))


if __name__ == "__main__":
    main()
