"""Tables of how fast steps, networks, data and metrics are, and how long the papers' tables take."""

from collections.abc import Sequence

from benchmarks.markdown import of_each_cpu, percent, read, rows_of, where


@of_each_cpu("jit_speed")
def jit_speed(lines: list[dict]) -> list[str]:
    """Times as fast with XLA as without, one row per network, one column per width and precision."""
    (images,) = {f"{line['batch']} images of {line['image']} x {line['image']}" for line in lines}
    ratios = {
        (line["network"], line.get("width"), line["precision"]): f"{line['times_as_fast_with_jit']:.2f}"
        for line in lines
    }
    columns = [(width, precision) for width in (16, None) for precision in ("float32", "bfloat16")]
    networks = dict.fromkeys(line["network"] for line in read("network_speed"))  # as the table of networks has them
    rows = [[f"`{name}`", *(ratios.get((name, *column), "") for column in columns)] for name in networks]
    heading = [f"times as fast with XLA, on a CPU, {images}"]
    heading += [f"{f'width {width}' if width else 'published'}, {precision}" for width, precision in columns]
    return rows_of(heading, rows)


@of_each_cpu("network_speed")
def network_speed(lines: list[dict]) -> list[str]:
    """Times as fast as PyTorch, one row per network, one column per precision."""
    networks: dict[str, dict] = {}
    for line in lines:
        networks.setdefault(line["network"], {"batch": str(line["batch"])})[line["precision"]] = line
    precisions = ("float32", "bfloat16")
    rows = [
        [f"`{name}`", found["batch"], *(f"{found[each]['times_as_fast_as_torch']:.2f}" for each in precisions)]
        for name, found in networks.items()
    ]
    heading = ["times as fast as PyTorch", "batch", *precisions]
    return rows_of(heading, rows)


def _paper_cost(file: str, columns: Sequence[str]) -> list[str]:
    """Hours of each table's sweeps of one config file, one row per table, one column per data set or network."""
    found: dict[str, dict[str, dict]] = {}
    for line in read("paper_cost"):
        name, _, sweep = line["sweep"].partition(":")
        if name == file:
            table, _, column = sweep.partition(",")
            found.setdefault(table, {})[column] = line
    rows = []
    for table, of_columns in found.items():
        runs = ", ".join(dict.fromkeys(str(line["runs"]) for line in of_columns.values()))
        cells = [f"{of_columns[column]['hours']:.0f}" if column in of_columns else "" for column in columns]
        rows.append([f"`{table}`", runs, *cells])
    first = read("paper_cost")[0]
    heading = [f"hours at {first['teraflops']:g} teraflops", "runs", *(f"`{column}`" for column in columns)]
    return [
        *rows_of(heading, rows),
        "",
        f"`results/paper_cost.json`: commit {read('paper_cost')[0]['commit']}, computed.",
    ]


def cskd_cost() -> list[str]:
    """Of the CS-KD paper and its ICLR submission."""
    data = ("cifar100", "tiny_imagenet", "caltech_birds2011", "stanford_dogs", "mit67", "imagenet2012")
    return _paper_cost("cskd_paper", data)


def pskd_cost() -> list[str]:
    """Of the PS-KD paper."""
    networks = ("preact_resnet18", "resnet101_cifar", "densenet121_cifar", "resnext29_8x64d", "pyramidnet200")
    return _paper_cost("pskd_paper", (*networks, "resnet152"))


PIPELINE = {
    "arrays32": "32-pixel arrays, pad, crop, flip",
    "folder64": "64-pixel JPEG files to 32 pixels",
    "folder500": "500-pixel JPEG files to 224 pixels",
}


def pipeline_speed() -> list[str]:
    """Times as fast as PyTorch's loader, and as a lean one."""
    rows = []
    for case, name in PIPELINE.items():
        torch, plain = (read(f"pipeline_speed_{case}_{baseline}")[0] for baseline in ("torch", "plain"))
        rows.append([name, f"{torch['ratio']:.1f}", f"{plain['ratio']:.1f}"])
        if "in_memory_ratio" in torch:
            held = [f"{each['in_memory_ratio']:.1f}" for each in (torch, plain)]
            rows.append(["the same, held in memory (what a run does)", *held])
    heading = ["pairs per second: times as many as", "PyTorch's loader", "a lean one in plain Python"]
    return [*rows_of(heading, rows), "", where("pipeline_speed_*")]


@of_each_cpu("recall_speed")
def recall_speed(lines: list[dict]) -> list[str]:
    """Seconds, and memory beyond the embeddings."""
    (line,) = lines
    rows = [
        [name, f"{line[f'{key}_seconds']:.1f}", f"{line[f'{key}_memory_mib']:,}", f"{100 * line[f'{key}_recall']:.2f}"]
        for name, key in (("here", "ours"), ("scikit-learn", "scikit_learn"))
    ]
    split = f"{line['images']:,} images of {line['classes']:,} classes, embeddings of {line['width']:,}"
    return rows_of([split, "seconds", "further MiB", "R@1 %"], rows)


def narrow_networks() -> list[str]:
    """How many processes died."""
    (line,) = read("narrow_networks")
    rows = [[str(line["processes"]), str(line["layers"]), str(line["networks"]), str(len(line["died"]))]]
    heading = ["processes", "convolutions in each", "networks in each", "processes that died"]
    return [*rows_of(heading, rows), "", where("narrow_networks")]


@of_each_cpu("step_time")
def step_time(lines: list[dict]) -> list[str]:
    """CS-KD over cross-entropy, and the operations of both per second over those of a matrix product."""
    heading = ["CS-KD beside cross-entropy", "step over step", "in theory", "% of matrix rate", "cross-entropy's %"]
    rows = [
        [
            f"`{line['network']}`, batch {line['batch']}, {line['precision']}",
            f"{line['cskd_over_cross_entropy']:.2f}",
            f"{line['limit']:.2f}",
            *(percent(line[f"{name}_share_of_matrix_rate"]) for name in ("cskd", "cross_entropy")),
        ]
        for line in lines
    ]
    return rows_of(heading, rows)


@of_each_cpu("evaluation_speed")
def evaluation_speed(lines: list[dict]) -> list[str]:
    """All of an evaluation, and the metrics alone, over a forward pass."""
    heading = ["evaluation beside a forward pass", "pass over pass", "its metrics alone", "forward's % of matrix rate"]
    rows = [
        [
            f"`{line['network']}`, {line['images']:,} images, {line['precision']}",
            f"{line['evaluation_over_forward']:.3f}",
            f"{line['metrics_over_forward']:.3f}",
            percent(line["plain_share_of_matrix_rate"]),
        ]
        for line in lines
    ]
    return rows_of(heading, rows)


@of_each_cpu("data_wait")
def data_wait(lines: list[dict]) -> list[str]:
    """Share of a step that waits, and what the pipeline takes from a step that does not."""
    names = PIPELINE | {f"in_memory_{case}": f"{name}, held in memory" for case, name in PIPELINE.items()}
    rows = [
        [
            names[line["case"]],
            percent(line["waiting_share"], 2),
            f"{line['over_a_batch_at_hand']:.2f}",
            percent(line["pipeline_alone_over_step"], 1),
            percent(line["share_of_matrix_rate"], 0),
        ]
        for line in lines
    ]
    first = f"CS-KD, `{lines[0]['network']}`, batch {lines[0]['batch']}"
    further = ["% that waits", "step over one without pipeline", "pipeline alone, % of a step", "% of the matrix rate"]
    return rows_of([first, *further], rows)


@of_each_cpu("pairing_speed")
def pairing_speed(lines: list[dict]) -> list[str]:
    """Seconds of what the number of images could make slow."""
    rows = [
        [
            f"class buckets of {line['images']:,} labels, {line['classes']:,} classes"
            if line["part"] == "buckets"
            else f"first batch of {line['images']:,} images, from step {line['first_step']:,} on",
            f"{line['seconds']:.2f}",
            str(line["peak_memory_mib"] - line["memory_before_mib"]),
        ]
        for line in lines
    ]
    return rows_of(["pairing", "seconds", "MiB more than before"], rows)


@of_each_cpu("first_step")
def first_step(lines: list[dict]) -> list[str]:
    """Seconds part by part."""
    (line,) = lines
    parts = ("imports", "building", "tracing", "step", "all")
    rows = [
        [name, *(f"{line[f'{key}_{part}_seconds']:.2f}" for part in parts)]
        for name, key in (("`python train_main.py`", "command"), ("the same network in plain Keras", "plain"))
    ]
    alone = f"{line['tensorflow_and_keras_seconds']:.2f}"
    rows.append(["`import tensorflow, keras` alone", alone, "", "", "", alone])
    arithmetic = f"{line['plain_step_at_matrix_rate_seconds']:.4f}"
    rows.append(["a step's operations at the matrix rate", "", "", "", arithmetic, ""])
    return rows_of(["seconds until the first step's end", *parts], rows)


@of_each_cpu("workers_speed")
def workers_speed(lines: list[dict]) -> list[str]:
    """Images per second on two cores, and the share of what these compute at most."""
    (line,) = lines
    first = f"`{line['network']}`, {line['images_per_core_and_step']} images per core and step"
    speeds = {name: line[f"{name}_images_per_second"] for name in ("together", "apart", "one")}
    names = {
        "together": "two workers that train one model",
        "apart": "two runs that know nothing of each other",
        "one": "one run on both cores",
    }
    share = line["one_share_of_matrix_rate"] / speeds["one"]  # per image and second
    rows = [[names[name], f"{speed:.1f}", percent(share * speed)] for name, speed in speeds.items()]
    rows.append(["% of the two runs' speed that the workers lose", percent(line["communication_share"], 1), ""])
    rows.append(["the workers' speed over that of the one run", f"{line['together_over_one']:.2f}", ""])
    return rows_of([first, "images per second", "% of matrix rate"], rows)
