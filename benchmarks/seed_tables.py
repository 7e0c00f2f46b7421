"""Tables over seeds: of two methods, precisions and sentences, of diverged runs, and of what each method costs."""

from collections.abc import Sequence

from benchmarks.markdown import of_each_cpu, read, rows_of, where
from benchmarks.seeded_runs import summed_up

COLUMNS = (
    ("top-1 error %", "top1_error", 100, 2),
    ("top-5 error %", "top5_error", 100, 2),
    ("NLL", "nll", 1, 3),
    ("ECE % (20 bins)", "ece", 100, 2),
    ("R@1 %", "recall_at_1", 100, 2),
    ("AURC × 1000", "aurc", 1000, 2),
)


def _over_seeds(name: str) -> list[str]:
    """Mean ± deviation over the seeds."""
    rows = []
    for line in read(name):
        cells = [
            f"{factor * line[key]['mean']:.{places}f} ± {factor * line[key]['deviation']:.{places}f}"
            for _, key, factor, places in COLUMNS
        ]
        rows.append([f"{line['methods']}, {line['runs']} seeds", *cells])
    return [*rows_of(["", *(column[0] for column in COLUMNS)], rows), "", where(name)]


def digits() -> list[str]:
    """Of the embedded default."""
    return _over_seeds("digits")


def fonts() -> list[str]:
    """Of the glyphs."""
    return _over_seeds("fonts")


def fashion_mnist() -> list[str]:
    """Of the photographs of garments."""
    return _over_seeds("fashion_mnist")


@of_each_cpu("method_cost")
def method_cost(lines: list[dict]) -> list[str]:
    """A step of each method over one of cross-entropy, and its peak memory."""
    rows = [
        [
            line["method"],
            f"{line['over_cross_entropy']:.2f}",
            f"{line['theory']:.2f}",
            f"{line['peak_memory_over_cross_entropy']:.2f}",
        ]
        for line in lines
    ]
    first = f"`{lines[0]['network']}`, batch {lines[0]['images']}"
    heading = [first, "step over cross-entropy's", "in theory", "peak memory over its"]
    return rows_of(heading, rows)


def precision() -> list[str]:
    """Mean ± deviation over the seeds, and the mean difference ± its standard error."""
    rows = []
    for line in read("precision"):
        if "seed" in line:
            continue
        name, spread = line["precision"], "deviation"
        if "minus" in line:
            name, spread = f"{name} - {line['minus']}", "standard_error"
        cells = [
            f"{factor * line[key]['mean']:.{places}f} ± {factor * line[key][spread]:.{places}f}"
            for _, key, factor, places in COLUMNS
        ]
        rows.append([f"{name}, {line['runs']} seeds", *cells])
    return [*rows_of(["", *(column[0] for column in COLUMNS)], rows), "", where("precision")]


TRANSLATION_COLUMNS = (("BLEU", "bleu", 100, 1), ("NLL per word", "nll", 1, 3), ("ECE % of words", "ece", 100, 2))


def translation_rows(lines: Sequence[dict]) -> list[list[str]]:
    """Of each method mean ± deviation over the seeds."""
    rows = []
    for name in dict.fromkeys(line["methods"] for line in lines):
        runs = [line for line in lines if line["methods"] == name]
        cells = []
        for _, key, factor, places in TRANSLATION_COLUMNS:
            values = summed_up([factor * run[key] for run in runs])
            spread = "" if values["deviation"] is None else f" ± {values['deviation']:.{places}f}"
            cells.append(f"{values['mean']:.{places}f}{spread}")
        rows.append([f"{name}, {len(runs)} seed{'s' if len(runs) > 1 else ''}", *cells])
    return rows


def translation() -> list[str]:
    """As the command prints it."""
    rows = translation_rows(read("translation"))
    return [*rows_of(["", *(column[0] for column in TRANSLATION_COLUMNS)], rows), "", where("translation")]


def divergence() -> list[str]:
    """One row per weight and recipe: how many of the seeds ran to NaN."""
    lines = read("divergence")
    rows = [
        [
            f"weight {line['weight']:g}, {line['recipe'].replace('none', 'gradients as they are')}",
            f"{line['diverged']} of {line['seeds']}",
            "" if line["mean_loss"] is None else f"{line['mean_loss']:.2f}",
        ]
        for line in lines
    ]
    heading = [
        f"CS-KD on the {lines[0]['data']}, learning rate {lines[0]['learning_rate']}",
        "to NaN",
        "loss at the end",
    ]
    return [*rows_of(heading, rows), "", where("divergence")]
