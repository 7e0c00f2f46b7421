"""Tables of what was measured: `python -m benchmarks.tables` writes them from results/*.json between their marks.

In README.md and docs/*.md a table `NAME` stands between `<!-- NAME -->`, or `<!-- NAME ARGUMENT -->` where it takes
some, and `<!-- end -->`, and a test compares them;
so a figure there is one that a command of this repository printed, on the commit and CPU that stand in its file.
"""

import pathlib
import re
from collections.abc import Callable

from absl import app

from benchmarks import choice_tables, few_images_tables, seed_tables, serving_tables, speed_tables
from benchmarks.results import ROOT

_BLOCK = re.compile(r"<!-- (\w+)((?: \w+)*) -->\n(.*?)<!-- end -->\n", re.DOTALL)


def pages() -> list[pathlib.Path]:
    """The files in which tables may stand."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


TABLES: dict[str, Callable[..., list[str]]] = {
    each.__name__: each
    for each in (
        seed_tables.digits,
        seed_tables.fashion_mnist,
        seed_tables.fonts,
        seed_tables.method_cost,
        seed_tables.precision,
        seed_tables.divergence,
        speed_tables.step_time,
        speed_tables.network_speed,
        speed_tables.jit_speed,
        speed_tables.evaluation_speed,
        speed_tables.recall_speed,
        speed_tables.pipeline_speed,
        speed_tables.pairing_speed,
        speed_tables.data_wait,
        speed_tables.first_step,
        speed_tables.workers_speed,
        serving_tables.serving_latency,
        serving_tables.runtimes,
        serving_tables.sizes,
        speed_tables.narrow_networks,
        speed_tables.cskd_cost,
        speed_tables.pskd_cost,
        seed_tables.translation,
        *few_images_tables.TABLES,
        *choice_tables.TABLES,
    )
}


def refreshed(text: str) -> str:
    """The text with every marked table as the results have it.

    Raises:
        KeyError: a mark of no table.
    """

    def table(found: re.Match) -> str:
        name, arguments = found[1], found[2].split()
        return "\n".join([f"<!-- {name}{found[2]} -->", *TABLES[name](*arguments), "<!-- end -->", ""])

    return _BLOCK.sub(table, text)


def main(argv):
    del argv
    for page in pages():
        page.write_text(refreshed(page.read_text()))


if __name__ == "__main__":
    app.run(main)
