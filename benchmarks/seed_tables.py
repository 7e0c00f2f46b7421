"""Tables of two methods over seeds, and of what each method costs."""

import statistics

from benchmarks.markdown import percent, read, rows_of, where

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


def fashion() -> list[str]:
    """Top-1 error and R@1 of the glyphs and of Fashion-MNIST, cross-entropy's and CS-KD's, over as many seeds."""
    found, seeds = {"glyphs, 5 of each": read("fonts")}, min(line["runs"] for line in read("fashion"))
    for line in read("fashion"):
        found.setdefault(f"Fashion-MNIST, {line['per_class']} of each", []).append(line)
    rows = []
    for name, both in found.items():
        errors, recalls = ([line[key]["values"][:seeds] for line in both] for key in ("top1_error", "recall_at_1"))
        fewer = sum(with_cskd < without for without, with_cskd in zip(*errors, strict=True))
        means = [percent(statistics.mean(values), 1) for values in (*errors, *recalls)]
        rows.append([name, *means[:2], f"{fewer} of {seeds}", *means[2:]])
    heading = ["", "top-1 error %", "with CS-KD", "fewer with CS-KD", "R@1 %", "with CS-KD"]
    return [*rows_of(heading, rows), "", f"{where('fonts')} {where('fashion')}"]


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
