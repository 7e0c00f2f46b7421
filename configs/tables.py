"""`--mode=report --table=NAME`: the papers' tables of what sweeps have trained, beside the figures that they published.

    python train_main.py --mode=report --workdir=workdirs/cskd_paper --table=cvpr1,cvpr6 --format=markdown

cvpr1 to cvpr6 are of the CS-KD paper, iclr1 to iclr4 of its ICLR submission, pskd1 to pskd4 of PS-KD; all: those of
which there are runs.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from configs import cskd_paper, pskd_paper
from configs.asked import load_from
from configs.published import PUBLISHED
from cskd_tf.errors import UserError
from cskd_tf.files import written_whole
from cskd_tf.runs import grid, rendering, report, strategies, tables

DATA = {
    "cifar100": "CIFAR-100",
    "tiny_imagenet": "TinyImageNet",
    "caltech_birds2011": "CUB-200-2011",
    "stanford_dogs": "Stanford Dogs",
    "mit67": "MIT67",
}
# A column or part that no paper has, beside that whose figures it was to reach; it is there where there are runs of it.
VARIANTS = {"cifar100_pad_crop": "cifar100"}
METRICS = {
    "top1_error": "top-1 error %",
    "top5_error": "top-5 error %",
    "nll": "NLL",
    "ece": "ECE %",
    "aurc": "AURC × 1000",
    "recall_at_1": "R@1 %",
}
LABELS = {
    **DATA,
    **METRICS,
    "cifar100_pad_crop": "CIFAR-100, padded and cropped",
    "resnet18": "ResNet-18",
    "densenet121": "DenseNet-121",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "resnext101_32x4d": "ResNeXt-101-32x4d",
    "preact_resnet18": "ResNet-18",
    "resnet101_cifar": "ResNet-101",
    "densenet121_cifar": "DenseNet-121",
    "resnext29_8x64d": "ResNeXt-29",
    "pyramidnet200": "PyramidNet",
    "pyramidnet200_shakedrop": "PyramidNet, ShakeDrop",
    "resnet152": "ResNet-152",
    "cross_entropy": "Cross-entropy",
    "adacos": "AdaCos",
    "adacos_public": "AdaCos",
    "virtual_softmax": "Virtual-softmax",
    "max_entropy": "Maximum-entropy",
    "label_smoothing": "Label-smoothing",
    "cskd": "CS-KD",
    "cskd_e": "CS-KD-E",
    "iclr": "CS-KD, ICLR form",
    "ddgsd": "DDGSD",
    "byot": "BYOT",
    "mixup": "Mixup",
    "mixup_cskd": "Mixup + CS-KD",
    "mixup_iclr": "Mixup + CS-KD, ICLR form",
    "kd": "KD",
    "kd_from_iclr": "KD",
    "kd_cskd": "KD + CS-KD",
    "kd_iclr": "KD + CS-KD, ICLR form",
    "tfkd": "TF-KD",
    "tfkd_public": "TF-KD",
    "tfkd_reg": "TF-KD, virtual teacher",
    "pskd": "PS-KD",
    "cutout": "Cutout",
    "cutout_pskd": "Cutout + PS-KD",
    "cutmix": "CutMix",
    "cutmix_pskd": "CutMix + PS-KD",
    "cutmix_label_smoothing": "CutMix + Label-smoothing",
    "cutmix_cskd": "CutMix + CS-KD",
    "cutmix_tfkd_public": "CutMix + TF-KD",
    "zipf": "Zipf's label smoothing",
    "uskd": "USKD",
    "dlb": "DLB",
}
MIXED = (
    "TinyImageNet's column mixes protocols: the published figures of Cross-entropy, AdaCos, Virtual-softmax and "
    "Maximum-entropy are the ICLR submission's, whose networks saw 90 % of the training images, CS-KD's are not."
)
ICLR = (
    "The submission reports the best validation epoch of CIFAR-100 and TinyImageNet, and the best validation accuracy "
    "of the other sets, of which, so far as it says, it holds nothing out: the lowest test_top1_error in log.jsonl."
)


@dataclasses.dataclass(frozen=True)
class Form:
    """How a table is laid out; {column}, {part} and {method} stand for its own.

    Attributes:
        title: of the table.
        columns: data sets, networks or metrics.
        experiment: of each cell, in the paper's config file.
        sweep: of which the experiment is one, in the same file.
        metric: of each cell.
        changes: whether the paper tells relative changes.
        ensemble: whether its figures are those of the ensemble of all seeds.
        notes: what there is to know of it.
    """

    title: str
    columns: Sequence[str]
    experiment: str
    sweep: str
    metric: str = "top1_error"
    changes: bool = False
    ensemble: bool = False
    notes: tuple[str, ...] = ()


def _pskd(title: str, sweep: str, *, ensemble: bool = False) -> Form:
    return Form(f"PS-KD, {title}", [*METRICS][:5], "{part},{method}", sweep, "{column}", ensemble=ensemble)


def _of_iclr(methods: str, *, besides: str = "") -> str:
    """What is to be known of figures that the CVPR paper shares with its submission to ICLR."""
    return (
        f"Of CUB-200-2011, Stanford Dogs and MIT67 the published figures of {methods} are the ICLR submission's, which "
        f"are of the best epoch.{besides}"
    )


TOP1 = "Top-1 error (%)"
BASELINES = _of_iclr("Cross-entropy, AdaCos, Virtual-softmax and Maximum-entropy")
FORMS = {
    "cvpr1": Form(
        f"CS-KD, Table 1. {TOP1}", [*DATA], "{column},{part},{method}", "table1,{column}", changes=True,
        notes=(BASELINES,),
    ),
    "cvpr2": Form(
        f"CS-KD, Table 2. {TOP1}, ResNet-18", [*DATA], "{column},resnet18,{method}", "table2,{column}", changes=True,
        notes=(_of_iclr("Cross-entropy"),),
    ),
    "cvpr3": Form(
        f"CS-KD, Table 3. {TOP1}, ResNet-18", [*DATA], "{column},resnet18,{method}", "table3,{column}",
        notes=(_of_iclr("Cross-entropy and Mixup"),),
    ),
    "cvpr4": Form(
        f"CS-KD, Table 4. {TOP1}, ResNet-10", [*DATA], "{column},resnet10,{method}", "table4,{column}",
        notes=(_of_iclr("Cross-entropy and CS-KD, and of the first two KD's,", besides=(
            " So CS-KD, and presumably the teacher, has the submission's form there (`iclr`), with a weight of 1."
        )),),
    ),
    "cvpr5": Form(
        "CS-KD, Table 5. ImageNet", ["top1_error"], "imagenet2012,{part},{method}", "table5,imagenet2012", "{column}"
    ),
    "cvpr6": Form(
        "CS-KD, Table 6. ResNet-18", [*DATA], "{column},resnet18,{method}", "table6,{column}", "{part}",
        notes=(MIXED, BASELINES),
    ),
    "iclr1": Form(
        f"CS-KD at ICLR, Table 1. {TOP1}", ["resnet18", "densenet121"], "{part},{column},{method}",
        "iclr_table1,{part}", changes=True, notes=(ICLR,),
    ),
    "iclr2": Form(
        f"CS-KD at ICLR, Table 2. {TOP1}, ResNet-18", [*DATA], "{column},resnet18,{method}", "iclr_table2,{column}",
        notes=(ICLR,),
    ),
    "iclr3": Form(
        f"CS-KD at ICLR, Table 3. {TOP1}, ResNet-10", [*DATA], "{column},resnet10,{method}", "iclr_table3,{column}",
        notes=(ICLR,),
    ),
    "iclr4": Form(
        "CS-KD at ICLR, Table 4. ResNet-18", ["top1_error", "top5_error", "ece", "recall_at_1"],
        "{part},resnet18,{method}", "iclr_table4,{part}", "{column}", notes=(ICLR,),
    ),
    "pskd1": _pskd("Table 1. CIFAR-100", "table1,{part}"),
    "pskd2": _pskd("Table 2. CIFAR-100", "table2,pyramidnet200"),
    "pskd3": _pskd("Table 3. Ensembles, CIFAR-100", "table3,{part}", ensemble=True),
    "pskd4": _pskd("Table 4. ImageNet", "table4,resnet152"),
}  # fmt: skip


def run(workdir: str, *, mode: str, names: Sequence[str], form: str) -> None:
    """Writes tables to `WORKDIR/tables` and shows them.

    Args:
        workdir: the folder at and below which the runs are.
        mode: of the command line, which has to be `report`.
        names: of tables that there are, or `all`.
        form: `text`, `markdown`, `latex` or `csv`.

    Raises:
        UserError: no runs of any of them, or runs that cannot be averaged; or several workers.
    """
    strategies.refuse_workers("--table and --format")
    if not names:
        raise UserError(f"Expected --table=NAME beside --format: some of {[*FORMS, 'all']}. Received: --format={form}")
    if form not in rendering.FORMATS:
        raise UserError(f"Expected a format of tables, of {[*rendering.FORMATS]}. Received: --format={form}")
    if mode != "report":
        raise UserError(f"Expected --mode=report beside --table. Received: --mode={mode}")
    root = pathlib.Path(workdir)
    there = tables.index(root)
    made = {}
    for name in FORMS if "all" in names else dict.fromkeys(names):
        expected = _expected(name, root)
        found = {experiment: tables.find(there, runs[0]) for experiment, runs in expected.items()}
        if any(each.runs for each in found.values()):
            layout = _layout(name, found)
            found = {cell.experiment: found[cell.experiment] for row in layout.rows for cell in row.cells}
            notes = tables.notes(layout, found, expected)
            report.name_other_images([run for each in found.values() for run in each.runs])
            made[name] = rendering.FORMATS[form][0](layout, tables.lines(layout, found), notes)
    if not made:
        begun = sum(map(len, there.values()))
        raise UserError(
            f"Expected finished runs of {', '.join(names)} in {root}, as --mode=sweep names their folders. "
            f"Received: none among {begun} runs"
        )
    (root / "tables").mkdir(exist_ok=True)
    for name, content in made.items():
        path = root / "tables" / f"{name}.{rendering.FORMATS[form][1]}"
        with written_whole(path) as partial:
            partial.write_text(content)
        sys.stdout.write(f"{content}\n{path}\n\n")


def _module(name: str) -> Any:
    return pskd_paper if name.startswith("pskd") else cskd_paper


def parts(name: str) -> list[tuple[str, list[list[str]]]]:
    """Each part of a published table, and its lines: method and figures."""
    found: list[tuple[str, list[list[str]]]] = []
    for line in PUBLISHED[name].strip().splitlines():
        if line.startswith("#") or not found:
            found.append((line.removeprefix("# ") if line.startswith("#") else "", []))
        if not line.startswith("#"):
            found[-1][1].append(line.split())
    return found


def parts_and_variants(name: str) -> list[tuple[str, list[list[str]]]]:
    """The parts of a table, and those of variants."""
    own = parts(name)
    return own + [(variant, lines) for variant, part in VARIANTS.items() for name, lines in own if name == part]


def columns(name: str) -> list[str]:
    """The columns of a table, and those of variants."""
    own = list(FORMS[name].columns)
    return own + [variant for variant, column in VARIANTS.items() if column in own]


def _expected(name: str, root: pathlib.Path) -> dict[str, list[grid.Run]]:
    """The runs that each experiment of a table has in its sweep."""
    module, form = _module(name), FORMS[name]
    home = pathlib.Path("workdirs", pathlib.Path(module.__file__).stem)
    plan = grid.Plan(load_from(module.__file__), folder=root, home=home, overrides={})
    pairs = {(part, column) for part, _ in parts_and_variants(name) for column in columns(name)}
    sweeps = sorted({form.sweep.format(part=part.removesuffix("_shakedrop"), column=column) for part, column in pairs})
    runs: dict[str, list[grid.Run]] = {}
    for sweep in sweeps:
        given = module.get_config(sweep).sweep
        for experiment in given.experiments:
            runs[experiment] = plan.add(experiment, grid.parse_grid([], defaults=given.grid))
    return runs


def _layout(name: str, found: Mapping[str, tables.Found]) -> tables.Layout:
    form = FORMS[name]

    def is_there(some: Sequence[tuple[str, list[list[str]]]], of_columns: Sequence[str]) -> bool:
        """Whether there are runs of any experiment of these parts and columns."""
        names = (
            form.experiment.format(part=part, column=column, method=method)
            for part, lines in some
            for method, *_ in lines
            for column in of_columns
        )
        return any(found[experiment].runs for experiment in names)

    printed = [each for each in parts_and_variants(name) if each[0] not in VARIANTS or is_there([each], form.columns)]
    shown = [column for column in columns(name) if column in form.columns or is_there(printed, [column])]
    rows = []
    for part, lines in printed:
        for method, *figures in lines:
            of_columns = dict(zip(form.columns, figures, strict=True))
            cells = tuple(
                tables.Cell(
                    form.experiment.format(part=part, column=column, method=method),
                    form.metric.format(part=part, column=column),
                    _figure(of_columns[VARIANTS.get(column, column)]),
                    ensemble=form.ensemble,
                )
                for column in shown
            )
            rows.append(tables.Row(LABELS.get(part, part), LABELS[method], cells))
    labels = tuple(LABELS[column] for column in shown)
    return tables.Layout(name, form.title, labels, tuple(rows), form.changes, form.notes)


def _figure(text: str) -> tables.Figure:
    mean, _, deviation = text.partition("±")
    return tables.Figure(float(mean), float(deviation) if deviation else None)
