"""Tables of runs beside published figures as text, Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Callable, Sequence

import rich.box
import rich.console
import rich.table

from cskd_tf.runs.tables import FACTORS, Entry, Layout, Line

NOTHING = "-"
BEST = "*"


def printed(entry: Entry, *, metric: str) -> str:
    """A figure with its deviation, its number of runs and its change, such as `21.99 ± 0.13 [3] (-11.0 %)`.

    Example:
        >>> from cskd_tf.runs.tables import Figure
        >>> printed(Entry(Figure(21.99, 0.13, 3), -0.11, best=True), metric="top1_error")
        '21.99 ± 0.13 [3] (-11.0 %)'
        >>> printed(Entry(None, None, best=False), metric="nll")
        '-'
    """
    figure = entry.figure
    if figure is None:
        return NOTHING
    count = f" [{figure.runs}]" if figure.runs else ""
    if figure.mean is None:
        return f"undefined{count}"
    digits = 3 if FACTORS[metric] == 1 and figure.runs else 2
    spread = f" ± {figure.deviation:.{digits}f}" if figure.deviation is not None else ""
    change = f" ({100 * entry.change:+.1f} %)" if entry.change is not None else ""
    return f"{figure.mean:.{digits}f}{spread}{count}{change}"


def _cells(lines: Sequence[Line], mark: Callable[[str], str]) -> list[list[str]]:
    """The text of each line: its part where that begins, its label, what its figures are, and they, the best marked."""
    rows, before = [], None
    for line in lines:
        begins, part = before is None or line.row is not before.row, line.row.part
        if before is not None and before.row.part == part:
            part = ""
        texts = [
            mark(text) if entry.best else text
            for entry, cell in zip(line.entries, line.row.cells, strict=True)
            for text in [printed(entry, metric=cell.metric)]
        ]
        rows.append([part, line.row.label if begins else "", line.kind, *texts])
        before = line
    return rows


def _heading(layout: Layout) -> list[str]:
    return ["", "method", "figures", *layout.columns]


def text(layout: Layout, lines: Sequence[Line], notes: Sequence[str]) -> str:
    """Columns for the screen; a star marks the best."""
    table = rich.table.Table(title=layout.title, title_justify="left", box=rich.box.SIMPLE_HEAD)
    for number, heading in enumerate(_heading(layout)):
        table.add_column(heading, justify="left" if number < 3 else "right", no_wrap=True)
    for cells in _cells(lines, f"{{}}{BEST}".format):
        table.add_row(*map(_literal, cells))
    output = io.StringIO()
    rich.console.Console(file=output, width=400, highlight=False).print(table)
    below = ["[n]: mean ± sample deviation of n runs. *: the best.", *notes]
    return "\n".join([*(line.rstrip() for line in output.getvalue().splitlines()), *below]) + "\n"


def _literal(cell: str) -> str:
    return cell.replace("[", r"\[")  # which rich would take for a style


def markdown(layout: Layout, lines: Sequence[Line], notes: Sequence[str]) -> str:
    """A table of Markdown, its columns aligned; the best is bold."""
    rows = [_heading(layout), *_cells(lines, "**{}**".format)]
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    rule = ["-" * width if column < 3 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        sides = ["<" if column < 3 else ">" for column in range(len(cells))]
        padded = (f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    body = [line(rows[0]), line(rule), *map(line, rows[1:])]
    below = ["- [n]: mean ± sample deviation of n runs; bold: the best.", *(f"- {note}" for note in notes)]
    return "\n".join([f"{layout.title}", "", *body, "", *below]) + "\n"


def latex(layout: Layout, lines: Sequence[Line], notes: Sequence[str]) -> str:
    """A `table` with rules of the package booktabs; the best is bold."""
    rows = [_heading(layout), *_cells(lines, f"{BEST}{{}}".format)]
    body = [" & ".join(map(_latex_cell, row)) + r" \\" for row in rows]
    below = " ".join(["In brackets the number of runs; mean and sample deviation.", *notes])
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escaped(layout.title)}. {_escaped(below)}}}",
            rf"\begin{{tabular}}{{lll{'r' * len(layout.columns)}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_cell(cell: str) -> str:
    return rf"\textbf{{{_escaped(cell[1:])}}}" if cell.startswith(BEST) else _escaped(cell)


_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%#_${}"},
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    }
)  # fmt: skip


def _escaped(cell: str) -> str:
    return cell.translate(_LATEX)


def comma_separated(layout: Layout, lines: Sequence[Line], notes: Sequence[str]) -> str:
    """A line per figure, in the units of the printed table, undefined ones empty; without notes."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    heading = "table part method column experiment metric figures mean deviation runs change best"
    writer.writerow(heading.split())
    for line in lines:
        for column, cell, entry in zip(layout.columns, line.row.cells, line.entries, strict=True):
            if entry.figure is None:
                continue
            figure = entry.figure
            numbers = [figure.mean, figure.deviation, figure.runs or None, entry.change]
            row = [layout.name, line.row.part, line.row.label, column, cell.experiment, cell.metric, line.kind]
            writer.writerow([*row, *("" if number is None else number for number in numbers), int(entry.best)])
    return output.getvalue()


FORMATS = {
    "text": (text, "txt"),
    "markdown": (markdown, "md"),
    "latex": (latex, "tex"),
    "csv": (comma_separated, "csv"),
}
