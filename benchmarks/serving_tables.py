"""Tables of what is delivered: what serving a classifier costs, other runtimes, and the package's files."""

from benchmarks.markdown import of_each_cpu, percent, read, rows_of, where


@of_each_cpu("serving_latency")
def serving_latency(lines: list[dict]) -> list[str]:
    """A SavedModel's signatures, and Keras' own calls, over the network alone."""
    kinds = {
        "images": "`serve`",
        "large_images": "`serve`, larger images",
        "files": "`serve_bytes`",
        "keras_call": "`network(pixels)`",
        "keras_predict": "`predict_on_batch`",
    }
    rows = [
        [
            f"`{line['network']}`, batch {line['batch']}, {line['image']} of {line['larger']} pixels",
            f"{line['saved_model_megabytes']:.0f}",
            f"{line['bare_milliseconds']:.1f}",
            *(f"{line[f'{kind}_over_bare']:.2f}" for kind in kinds),
        ]
        for line in lines
    ]
    heading = ["a call over one of the network alone", "SavedModel, MB", "network, ms", *kinds.values()]
    return rows_of(heading, rows)


def sizes() -> list[str]:
    """Of wheel and source distribution."""
    rows = [[line["file"], f"{line['bytes'] / 1e6:.2f}"] for line in read("sizes")]
    return [*rows_of(["file", "MB"], rows), "", where("sizes")]


def runtimes() -> list[str]:
    """One row per runtime: how near to the SavedModel, how large, how slow."""
    lines = read("runtimes")
    rows = []
    for line in lines:
        differs = line.get("in_chromium", line.get("largest_difference"))
        rows.append(
            [
                f"`{line['runtime']}`",
                "" if differs is None else f"{differs:.0e}",
                f"{line['bytes'] / 1e6:.2f}",
                *(f"{line[f'batch_{batch}_over_saved_model']:.2f}" for batch in (1, 32)),
            ]
        )
    (int8,) = [line for line in lines if "ece" in line]
    same, *errors = (percent(int8[key], 2) for key in ("top1_agreement", "ece", "ece_of_the_saved_model"))
    said = (
        f"`{int8['runtime']}` gives {same} % of the images the same class, with an ECE of {errors[0]} % for "
        f"{errors[1]} %. Where OpenCV resizes images of three times the size, and not the graph, probabilities differ "
        f"by up to {lines[0]['resized_by_opencv']:.2g}."
    )
    if lines[0]["load"] > 1:
        said += (
            f" Other programs kept {lines[0]['load']:.0f} threads busy on {lines[0]['cores']} cores meanwhile, so that "
            "times say little."
        )
    first = f"`{lines[0]['network']}`, width {lines[0]['width']}, {lines[0]['image']} pixels"
    heading = [first, "differs by", "MB", "batch 1, time over SavedModel's", "batch 32"]
    return [*rows_of(heading, rows), "", said, "", where("runtimes")]
