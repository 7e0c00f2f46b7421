"""What people read on the screen: tables as wide as they need, and prose that is wrapped."""

import sys
import textwrap

import rich.console

PROSE = 80  # columns where nobody watches


def console(*, piped: int = 160) -> rich.console.Console:
    """What prints tables and lines, none of which it breaks.

    Args:
        piped: columns that a table may take where nobody watches: a log must not lose any.
    """
    return rich.console.Console(width=None if sys.stdout.isatty() else piped, highlight=False, soft_wrap=True)


def say(screen: rich.console.Console, text: str) -> None:
    """Prints prose, as wide as the terminal, or else `PROSE` columns; no word is broken, such as a flag or a path.

    Example:
        >>> say(rich.console.Console(width=24), "Nothing here keeps the run from training with --mode=train.")
        Nothing here keeps the
        run from training with
        --mode=train.

    Args:
        screen: where to.
        text: one paragraph; the lines behind its first have its indentation and two spaces more, if it has any.
    """
    width = screen.width if screen.is_terminal else min(screen.width, PROSE)
    indent = " " * (len(text) - len(text.lstrip()))
    wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    wrapper.subsequent_indent = indent and indent + "  "
    screen.print(wrapper.fill(text), markup=False, highlight=False, soft_wrap=True)
