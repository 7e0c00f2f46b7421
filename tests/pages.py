"""README, docs and the other pages in Markdown: their blocks of code, and which of these are not run, for what reason.

A block is run by a test, unless a comment on the line above it says `not run: REASON`, REASON one of `REASONS`.
"""

import dataclasses
import re
import shlex
from collections.abc import Iterator

from benchmarks import tables
from tests.helpers import ROOT

PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in tables.pages()}
OTHERS = {name: (ROOT / name).read_text() for name in ("CONTRIBUTING.md", "CHANGELOG.md", "saved_models/README.md")}
ALL = {**PAGES, **OTHERS}
# What may keep a block from being run, and how many blocks it does.
REASONS = {
    "fetches data": 24,
    "on folders of a test": 12,  # make newcomer runs them, on those of tests/test_commands_on_folders.py
    "takes long": 7,
    "installs packages": 2,
    "takes a cluster": 1,
    "needs KerasHub": 1,  # make detection runs it
    "needs other runtimes": 4,  # make runtimes runs them
    "needs PyTorch": 1,  # make parity runs the same functions
}
_BLOCK = re.compile(r"^(?:<!-- not run: ([^\n]*) -->\n)?```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its name from the root.
        number: from 1, among the blocks of its language on the page.
        language: `python`, `bash`, `diff`, or of what is no code `text` or nothing.
        text: without the fences.
        reason: why it is not run; empty: it is.
    """

    page: str
    number: int
    language: str
    text: str
    reason: str

    @property
    def file(self) -> str:
        """The file that it is to be saved as, by a comment in its first line; empty: it is none."""
        found = re.match(r"# ([\w/]+\.py)\n", self.text)
        return found[1] if found else ""


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of some languages, of all where none is named, in the order of the page."""
    counts: dict[str, int] = {}
    found = []
    for reason, language, text in _BLOCK.findall(ALL[page]):
        counts[language] = counts.get(language, 0) + 1
        found.append(Block(page, counts[language], language, text, reason))
    return [block for block in found if block.language in languages or not languages]


def all_blocks() -> Iterator[Block]:
    for page in ALL:
        yield from blocks(page)


def lines_of(block: Block) -> list[list[str]]:
    """The words of each command; a program that is given to one on its standard input is left out."""
    text = re.sub(r"<<'END'\n.*?^END$", "", block.text.replace("\\\n", " "), flags=re.DOTALL | re.MULTILINE)
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def prose(text: str) -> str:
    """A page without its code."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """What a link to a heading of a page can be called, as GitHub names it."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}
