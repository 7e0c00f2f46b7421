"""The site: `make docs` builds it from README, docs/ and docstrings, and every warning is an error.

The pages stay what a code host shows: links lead from file to file, and the navigation is that of docs/README.md, whose
headings are its captions.
"""

import inspect
import pathlib
import posixpath
import re
import sys
import tomllib
import typing

import numpy.typing

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
numpy.typing.ArrayLike = typing.NewType("ArrayLike", object)  # by its name, not as all the types that it stands for

import cskd_tf  # noqa: E402

project = "cskd_tf"
author = "cskd_tf contributors"
project_copyright = author
release = version = cskd_tf.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "saved_models/README.md", "docs/**.md"]
exclude_patterns = [".*", "workdirs", "site", "dist", "build", "results", "tests", "saved_models/*[0-9]*"]

myst_heading_anchors = 4
html_theme = "furo"
html_title = f"cskd_tf {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

autodoc_inherit_docstrings = False  # those of Keras are of another form
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
add_module_names = False
napoleon_numpy_docstring = False

REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
INDEX = ROOT / "docs" / "README.md"


def navigation() -> dict[str, list[str]]:
    """The pages that docs/README.md lists, from the root, by its headings."""
    sections = {}
    for section in re.split(r"^## ", INDEX.read_text(), flags=re.MULTILINE)[1:]:
        caption, _, rest = section.partition("\n")
        links = re.findall(r"^\| \[[^\]]+\]\(([^)#]+\.md)\)", rest, re.MULTILINE)
        sections[caption] = [posixpath.normpath(f"docs/{link}").removesuffix(".md") for link in links]
    return sections


def add_navigation(text: str) -> str:
    """The first page with the tables of contents of all others."""
    sections = {**navigation()}
    first = next(iter(sections))
    sections[first] = ["docs/README", *sections[first]]
    trees = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"])
        for caption, pages in sections.items()
    ]
    return "\n\n".join([text, *trees])


def link_folders(text: str, *, page: str) -> str:
    """A link to a folder, which is no page, leads to the code host."""

    def target(found: re.Match) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), found[1]))
        return f"]({REPOSITORY}/tree/main/{path})" if (ROOT / path).is_dir() else found[0]

    return re.sub(r"\]\(([\w./-]+)\)", target, text)


def prepare_page(app, docname, source):
    text = link_folders(source[0], page=docname)
    source[0] = add_navigation(text) if docname == root_doc else text


def prepare_docstring(app, kind, name, thing, options, lines):
    """What reStructuredText has otherwise than our docstrings: double backticks, and a blank line before an example."""
    made: list[str] = []
    for line in lines:
        follows_prose = made and made[-1].strip() and not made[-1].lstrip().startswith((">>>", "..."))
        if line.lstrip().startswith(">>>") and follows_prose and _indent(made[-1]) < _indent(line):
            made.append("")
        made.append(line)
    lines[:] = re.sub(r"(?<!`)`([^`]+)`(?!`)(\w?)", _literal, "\n".join(made)).split("\n")


def _literal(found: re.Match) -> str:
    text = f"``{' '.join(found[1].split())}``"
    return f"{text}\\ {found[2]}" if found[2] else text


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def prepare_signature(app, kind, name, thing, options, signature, returns):
    """The arguments of a class' own `__init__`, which Keras hides behind those of `__new__`."""
    if kind != "class" or "__init__" not in vars(thing):
        return None
    own = inspect.signature(thing.__init__)
    kept = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in list(own.parameters.values())[1:]
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    return str(inspect.Signature(kept)), None


def copy_first_page(app, error):
    """The first page under the name that a server looks for."""
    if error is None and app.builder.format == "html":
        out = pathlib.Path(app.outdir)
        (out / "index.html").write_bytes((out / f"{root_doc}.html").read_bytes())


def setup(app):
    app.connect("source-read", prepare_page)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)  # before napoleon's
    app.connect("autodoc-process-signature", prepare_signature)
    app.connect("build-finished", copy_first_page)
