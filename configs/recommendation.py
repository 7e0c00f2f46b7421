"""A config for what the doctor found: keys, values and why, by what the papers had at the nearest sizes."""

import dataclasses
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from configs import cskd_paper, pskd_paper
from configs.evidence import UNEVEN, Gain, nearest
from cskd_tf.runs.doctor import Findings

# Networks whose first layer keeps all pixels, which are for images of about 32.
FOR_SMALL_IMAGES = {*cskd_paper.SMALL.values(), *pskd_paper.NETWORKS, "preact_resnet34"} - {pskd_paper.IMAGENET}
SMALL, LARGE = 32, 224  # pixels of the papers' small images, and of their photographs
SHORT_SIDE = 256
ENOUGH = 100  # validation images, of which an error rate has a standard error of 5 points at most
STEPS = 3  # of an epoch at least, in a recommended batch size
DIVERGES = (3.0, 0.1)  # weight of CS-KD and learning rate at which the public code's loss runs to NaN on small data


@dataclasses.dataclass(frozen=True)
class Setting:
    """A key of a config, what to set it to, and why."""

    key: str
    value: Any
    reason: str


def recommend(findings: Findings, gains: Sequence[Gain]) -> list[Setting]:
    """What to set, whether the config has it already or not.

    Args:
        findings: of the doctor.
        gains: `evidence.published()`, of which the nearest counts.
    """
    sizes: dict[str, Any] = {"images": float(np.median(findings.counts)), "classes": len(findings.counts)}
    images = list(_images(findings))
    listed = _methods(findings, _of_like_pixels(gains, pixels=_pixels_seen(findings, images), **sizes))
    batch_size = _batch_size(findings, nearest(gains, **sizes)[0])
    rules = (_optimizer(findings, listed.value), batch_size, images, _classes(findings))
    settings = [listed, *(setting for rule in rules for setting in rule), *_validation(findings)]
    if listed.value:
        reason = (
            "trains cross-entropy too, on the same images: what CS-KD gains on yours is then measured, not believed"
        )
        settings.append(Setting("baseline", True, reason))
    return settings


def _pixels_seen(findings: Findings, images: Sequence[Setting]) -> int:
    """Of the square that the network sees, as recommended or as it is."""
    recommended = {setting.key: setting.value for setting in images}
    return recommended.get("data.augment.image_size", findings.config.data.augment.image_size)


def _of_like_pixels(gains: Sequence[Gain], *, pixels: int, images: float, classes: int) -> Gain:
    """The published data set of the nearest size among those that networks saw at 32 pixels, or those at 224.

    The weights of CS-KD differ between these two kinds: 1 at 32 pixels and, of fine-grained photographs, 3.
    """
    is_small = pixels < math.sqrt(SMALL * LARGE)
    alike = [gain for gain in gains if (gain.data in cskd_paper.CONVENTIONAL) == is_small]
    return nearest(alike, images=images, classes=classes)[0]


def _methods(findings: Findings, paper: Gain) -> Setting:
    if np.median(findings.counts) < 2:
        return Setting("methods", (), "cross-entropy: the partner of most images would be the image itself")
    (cskd,) = cskd_paper.methods(paper.data)["cskd"]
    pixels = SMALL if paper.data in cskd_paper.CONVENTIONAL else LARGE
    reason = (
        f"as for {paper.label} in configs/cskd_paper.py: of the data sets that the CS-KD paper shows at {pixels} "
        "pixels, it is nearest to yours in images per class and number of classes"
    )
    return Setting("methods", (cskd,), reason)


def _optimizer(findings: Findings, methods: tuple[Mapping[str, Any], ...]) -> Iterator[Setting]:
    config = findings.config
    weight, rate = DIVERGES
    heavy = any(method["weight"] >= weight for method in methods)
    if heavy and config.optimizer.name == "SGD" and config.schedule.learning_rate >= rate:
        reason = (
            f"a weight of {weight:g} at a learning rate of {rate:g} ran to NaN on few images in the public code; here "
            "it stayed finite, and gradients cut to this norm left half of the loss. A lower schedule.learning_rate is "
            "the other way"
        )
        yield Setting("optimizer.clip_norm", config.optimizer.clip_norm or 1.0, reason)


def _batch_size(findings: Findings, paper: Gain) -> Iterator[Setting]:
    config, images = findings.config, int(findings.counts.sum())
    network = "resnet50" if paper.data == "imagenet2012" else "resnet18"
    size = cskd_paper.get_config(f"{paper.data},{network},cskd").batch_size
    if config.gradient_accumulation_steps > 1 or config.steps_per_execution > 1:
        yield Setting(
            "batch_size", config.batch_size, "as it is: the steps of an epoch follow from it, and yours are in parts"
        )
    elif size * STEPS <= images:
        reason = f"the paper's of {paper.label}, which is nearest to yours in images per class and number of classes"
        yield Setting("batch_size", size, reason)
    else:
        fitting = min(2 ** int(math.log2(max(images // STEPS, 2))), images)
        reason = f"{images:,} training images make fewer than {STEPS} steps of {size}, the paper's of {paper.label}"
        yield Setting("batch_size", fitting, reason)


def _images(findings: Findings) -> Iterator[Setting]:
    augment, network = findings.config.data.augment, findings.config.network
    size, side = augment.image_size, float(np.median(findings.sides))
    if side >= LARGE > size and network.name in FOR_SMALL_IMAGES and not network.weights:
        size = LARGE
        reason = f"photographs of {side:.0f} pixels, which the papers show at {LARGE}; an epoch then takes far longer"
        yield Setting("data.augment.image_size", LARGE, reason)
        yield Setting("data.augment.short_side", SHORT_SIDE, "as usual at evaluation, with the centre cut out")
        yield Setting("network.name", "resnet18", f"the papers' for {LARGE} pixels; {network.name} is for about 32")
        if network.width:
            yield Setting("network.width", 0, "as published")
    elif side >= 1.5 * size:
        reason = f"as it is: images have about {side:.0f}, and a network that sees more takes longer by its square"
        yield Setting("data.augment.image_size", size, reason)
    if findings.same_size and side <= 1.25 * size:
        yield Setting(
            "data.augment.crop", "pad_crop", f"all images are of one size, about the {size} pixels of the network"
        )
        yield Setting("data.augment.padding", max(size // 8, 1), "an eighth, as 4 of CIFAR-100's 32")
    else:
        reason = f"images of about {side:.0f} pixels for {size}: parts of random size, as in the paper"
        yield Setting("data.augment.crop", "random_resized_crop", reason)
    if findings.config.data.source.channels == 1:
        yield Setting(
            "data.augment.flip",
            False,
            "grey images are often characters, which mirrored are others; True for photographs",
        )
    else:
        reason = "as it is: the papers mirror their photographs; False where left and right differ, as in writing"
        yield Setting("data.augment.flip", augment.flip, reason)


def _classes(findings: Findings) -> Iterator[Setting]:
    counts, config = findings.counts, findings.config
    uneven = counts.max() / counts.min()
    if config.class_weights.scheme or config.data.pairing.balanced:
        return
    if uneven >= UNEVEN:
        reason = (
            f"the largest class has {uneven:,.0f} times the images of the smallest; not measured here with CS-KD "
            "(Cui et al., 2019). data.pairing.balanced is the other way"
        )
        yield Setting("class_weights.scheme", "effective", reason)


def _validation(findings: Findings) -> Iterator[Setting]:
    split, held_out = findings.config.data.split, findings.held_out
    key, images = "data.split.validation_fraction", int(findings.counts.sum()) + held_out
    if findings.brought:
        yield Setting(key, split.validation_fraction, f"as it is: the data bring {held_out:,} validation images")
    elif held_out >= ENOUGH:
        yield Setting(
            key, split.validation_fraction, f"as it is: {held_out:,} validation images tell an error to 5 points"
        )
    elif split.train_per_class:
        yield Setting(key, split.validation_fraction, "as it is, beside data.split.train_per_class")
    else:
        fraction = next((share for share in (0.1, 0.2) if share * images >= ENOUGH), 0.0)
        reason = f"{fraction:.0%} are at least {ENOUGH}, which tell an error to 5 points"
        if not fraction:
            reason = f"of {images:,} images all train: too few could be held out to choose or to calibrate by"
        yield Setting(key, fraction, reason)


def mending(settings: Sequence[Setting], findings: Findings) -> dict[str, Any]:
    """What `findings.problem` speaks of and is recommended to be another, by key."""
    return {
        setting.key: setting.value
        for setting in settings
        if re.search(rf"(?<![\w.]){re.escape(setting.key)}\b", findings.problem)
        and current(findings.config, setting.key) != setting.value
    }


def current(config: Any, key: str) -> Any:
    """What a typed config has under a dotted key."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


def command(settings: Sequence[Setting], *, config: Any, program: str, file: str, overrides: Mapping[str, Any]) -> str:
    """The command line that trains by the settings: what the user gave, and what is to be changed; a line per flag.

    Args:
        settings: what `recommend` returned.
        config: that of the findings.
        program: what is run.
        file: of `--config`, and its experiment.
        overrides: what the user gave beside it, by key.
    """
    changed = {setting.key: setting.value for setting in settings if current(config, setting.key) != setting.value}
    given = {key: value for key, value in overrides.items() if key.partition("[")[0] not in changed}
    flags = [f"--config.{key}={_written(value)}" for key, value in {**given, **changed}.items()]
    return " \\\n  ".join([program, *map(_quoted, [f"--config={file}", *flags])])


def _written(value: Any) -> str:
    plain = value.to_dict() if hasattr(value, "to_dict") else value
    return plain if isinstance(plain, str) else str(plain)


def _quoted(flag: str) -> str:
    """For a shell; double quotes around single ones, which are easier to read than escaped ones."""
    legible = "'" in flag and not set('"$`\\!') & set(flag)
    return f'"{flag}"' if legible else shlex.quote(flag)
