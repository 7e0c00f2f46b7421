"""What people read on the screen: tables that lose no figure, however narrow it is, and prose that is wrapped."""

import os
import re
import sys
import textwrap
from collections.abc import Sequence

import rich.box
import rich.cells
import rich.console
import rich.measure
import rich.table

PROSE = 80  # columns where nobody watches
NAME = 20  # columns that names and other texts of a table get at least, whose longer words are broken
_BETWEEN = re.compile(r" (±|→|to) ")  # two figures of a cell


class Console(rich.console.Console):
    """One that goes on in silence where the reader of its pipe has left: what is printed is a view of files."""

    def on_broken_pipe(self) -> None:
        """As rich's, without its `SystemExit(1)`, which would end a training."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def console(*, piped: int = 160) -> rich.console.Console:
    """What prints tables and lines, none of which it breaks, and square brackets as they are.

    Args:
        piped: columns that a table may take where nobody watches: a log must not lose any.
    """
    width = None if sys.stdout.isatty() else piped
    return Console(width=width, highlight=False, markup=False, soft_wrap=True)


def say(screen: rich.console.Console, text: str, *, style: str = "") -> None:
    """Prints prose, as wide as the terminal, or else `PROSE` columns; no word is broken, such as a flag or a path.

    Example:
        >>> say(rich.console.Console(width=24), "Nothing here keeps the run from training with --mode=train.")
        Nothing here keeps the
        run from training with
        --mode=train.

    Args:
        screen: where to.
        text: one paragraph; the lines behind its first have its indentation and two spaces more, if it has any.
        style: of rich.
    """
    width = screen.width if screen.is_terminal else min(screen.width, PROSE)
    indent = " " * (len(text) - len(text.lstrip()))
    wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    wrapper.subsequent_indent = indent and indent + "  "
    screen.print(wrapper.fill(text), style=style, markup=False, highlight=False, soft_wrap=True)


def table(title: str, headings: Sequence[str], *, texts: int = 1) -> rich.table.Table:
    """A table without rows: first columns of texts, which may take several lines, and columns of figures.

    Args:
        title: above it.
        headings: of the columns.
        texts: how many of them are no figures.
    """
    made = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD)
    for number, heading in enumerate(headings):
        figures = number >= texts
        made.add_column(heading, justify="right" if figures else "left", no_wrap=figures, overflow="fold")
    return made


def show(screen: rich.console.Console, made: rich.table.Table) -> None:
    r"""Prints what `table` made and rows were added to, with every figure whole.

    Where the screen is too narrow for it, headings take more lines and columns stand closer; then what is behind `±`,
    `→` and `to` goes to a second line; and then the figures of a row go below each other, behind their headings.

    Example:
        >>> runs = table("Two runs", ["methods", "top-1\nerror %", "NLL"])
        >>> runs.add_row("cross-entropy", "11.02 ± 0.31", "0.412 ± 0.011")
        >>> runs.add_row("CSKD(temperature=4, weight=1)", "9.87 ± 0.25", "0.371 ± 0.009")
        >>> show(rich.console.Console(width=40), runs)  # doctest: +NORMALIZE_WHITESPACE
        Two runs
                                  top-1
                                  error
         methods                      %      NLL
        ────────────────────────────────────────
        cross-entropy             11.02    0.412
                                 ± 0.31  ± 0.011
        CSKD(temperature=4,        9.87    0.371
        weight=1)                ± 0.25  ± 0.009
        >>> show(rich.console.Console(width=24), runs)
        Two runs
        cross-entropy
          top-1 error %: 11.02 ±
            0.31
          NLL: 0.412 ± 0.011
        CSKD(temperature=4,
        weight=1)
          top-1 error %: 9.87 ±
            0.25
          NLL: 0.371 ± 0.009
    """
    say(screen, str(made.title), style="table.title")
    for close, split in ((False, False), (True, False), (True, True)):
        form = _copied(made, close=close, split=split)
        *others, _ = (column for column in form.columns if not column.no_wrap)
        most = [max(_widths(column)) for column in form.columns]
        least = [_least(column, names=column not in others) for column in form.columns]
        limit = screen.options.update(max_width=sys.maxsize)
        frame = rich.measure.Measurement.get(screen, limit, form).maximum - sum(most)
        if frame + sum(least) <= screen.width:
            if frame + sum(most) > screen.width:
                for column, width in zip(others, least, strict=False):  # rich would take from all texts alike
                    column.width = width
            screen.print(form)
            return
    _stack(screen, made)


def _rows(made: rich.table.Table) -> list[tuple[str, ...]]:
    return list(zip(*(map(str, column.cells) for column in made.columns), strict=True))


def _copied(made: rich.table.Table, *, close: bool, split: bool) -> rich.table.Table:
    """Without its title, which is wrapped as prose is."""
    texts = sum(not column.no_wrap for column in made.columns)
    rows = _rows(made)
    if split:
        rows = [(*row[:texts], *(_BETWEEN.sub(r"\n\1 ", cell) for cell in row[texts:])) for row in rows]
    headings = [str(column.header) for column in made.columns]
    if close:
        cells = zip(*rows, strict=True)
        wrapped = [_wrapped(heading, column) for heading, column in zip(headings, cells, strict=True)]
        most = max(len(lines) for lines in wrapped)
        headings = ["\n".join([""] * (most - len(lines)) + lines) for lines in wrapped]
    copy = table("", headings, texts=texts)
    copy.title, copy.collapse_padding, copy.show_edge, copy.pad_edge = None, close, not close, not close
    for row in rows:
        copy.add_row(*row)
    return copy


def _wrapped(heading: str, cells: Sequence[str]) -> list[str]:
    """Lines of a heading, not longer than the cells below it or its longest word."""
    lines = [line for cell in cells for line in cell.splitlines()]
    width = max(map(len, [*lines, *heading.split(), " "]))
    return textwrap.wrap(heading, width, break_long_words=False, break_on_hyphens=False)


def _least(column: rich.table.Column, *, names: bool) -> int:
    """Columns in which all figures are whole, names have what they need, and no word of other texts is broken."""
    if column.no_wrap:
        return max(_widths(column))
    return min(NAME if names else sys.maxsize, max(_widths(column, words=True)))


def _widths(column: rich.table.Column, *, words: bool = False) -> list[int]:
    lines = [line for cell in (column.header, *column.cells) for line in str(cell).splitlines()]
    return [rich.cells.cell_len(part) for line in lines for part in (line.split() if words else [line])] or [0]


def _stack(screen: rich.console.Console, made: rich.table.Table) -> None:
    _, *headings = (" ".join(str(column.header).split()) for column in made.columns)
    for name, *cells in _rows(made):
        for line in name.splitlines():
            say(screen, line)
        for heading, cell in zip(headings, cells, strict=True):
            say(screen, f"  {heading}: {cell}" if heading else f"  {cell}")
