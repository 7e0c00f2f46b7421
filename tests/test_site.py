"""The site: which pages it has, and, where Sphinx is installed, that it is built and needs no network."""

import html.parser
import importlib.util
import pathlib
import re
import subprocess
import sys
import urllib.parse

import pytest

import cskd_tf
from tests import pages
from tests.helpers import ROOT

API = {path: path.read_text() for path in sorted((ROOT / "docs" / "api").glob("*.md"))}
MODULES = ("callbacks", "data", "losses", "methods", "metrics", "networks", "optimizers")


def test_the_reference_has_every_public_module_and_is_in_the_index():
    documented = set(re.findall(r"auto(?:module|class):: cskd_tf\.(\w+)", "".join(API.values())))
    assert documented >= {*MODULES, "errors", "SelfDistiller"}
    assert set(MODULES) == set(cskd_tf.__all__) - {"SelfDistiller"}
    assert all(f"](api/{path.name})" in pages.PAGES["docs/README.md"] for path in API)


def test_links_of_the_reference_lead_somewhere():
    for path, text in API.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            file, _, anchor = target.partition("#")
            assert (path.parent / file).is_file(), f"{path.name} links to {target}"
            assert not anchor or anchor in pages.anchors((path.parent / file).read_text()), target


class Links(html.parser.HTMLParser):
    """The targets of a page's links, what it loads, and the names that links may lead to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.names = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.names.add(values.get("id"))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        for key in ("src", "href"):
            if tag in ("script", "link", "img", "iframe", "source") and values.get(key):
                self.loaded.append(values[key])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("Sphinx is not installed; make docs installs it")
    target = tmp_path_factory.mktemp("site")
    recipe = re.search(r"^docs:.*\n\t\$\(BIN\)/python (.*) site$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    command = [sys.executable, *recipe.split(), str(target), "-d", str(target / ".doctrees")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return target


@pytest.mark.slow
def test_every_page_is_built_and_leads_nowhere_that_is_not_there(site):
    built = {path: Links(path.read_text()) for path in site.rglob("*.html")}
    assert {pathlib.Path(name).with_suffix(".html") for name in pages.ALL} <= {path.relative_to(site) for path in built}
    for path, page in built.items():
        for target in page.loaded:
            assert not re.match(r"(https?:)?//", target), f"{path} loads {target}"
        for target in [*page.links, *page.loaded]:
            if re.match(r"(https?|mailto):", target):
                continue
            file, _, anchor = urllib.parse.unquote(target).partition("#")
            there = (path.parent / file.split("?")[0]).resolve() if file else path
            assert there.exists(), f"{path} leads to {target}"
            if anchor and there in built:
                assert anchor in built[there].names, f"{path} leads to {target}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", style.read_text()), style


@pytest.mark.slow
def test_the_reference_has_every_public_name(site):
    names = set().union(*(Links(path.read_text()).names for path in (site / "docs" / "api").glob("*.html")))
    for module in MODULES:
        found = getattr(cskd_tf, module)
        for name in getattr(found, "__all__", [name for name in vars(found) if not name.startswith("_")]):
            thing = getattr(found, name)
            if callable(thing) and getattr(thing, "__module__", "").startswith("cskd_tf"):
                assert any(each and each.endswith(f".{name}") for each in names), f"{module}.{name}"
