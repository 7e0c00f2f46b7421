"""Tables of two methods over seeds, and of what each method costs."""

from benchmarks.markdown import read, rows_of, where

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


def method_cost() -> list[str]:
    """A step of each method over one of cross-entropy, and its peak memory."""
    lines = read("method_cost")
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
    return [*rows_of(heading, rows), "", where("method_cost")]
