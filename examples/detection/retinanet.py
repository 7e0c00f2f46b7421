"""KerasHub's RetinaNet on a network of this package, images to train it on, and pycocotools' mAP."""

import contextlib
import io
from collections.abc import Mapping

import keras
import keras_hub
import numpy as np
from pycocotools import coco, cocoeval

import cskd_tf

CLASSES = ("disc", "square")
SIDE = 64  # pixels
BOXES = 2  # per image


def detector(classifier: str) -> keras_hub.models.RetinaNetObjectDetector:
    """RetinaNet on the network of a run, of which the stages at 1/8, 1/16 and 1/32 of the image's size are read.

    Args:
        classifier: a run's `classifier.keras`.
    """
    network = keras.models.load_model(classifier).network
    pyramid = keras_hub.models.RetinaNetBackbone(
        image_encoder=cskd_tf.networks.backbone(network),
        min_level=3,
        max_level=5,
        use_p5=False,
        image_shape=(SIDE, SIDE, network.input_shape[-1]),
    )
    return keras_hub.models.RetinaNetObjectDetector(
        backbone=pyramid, num_classes=len(CLASSES), bounding_box_format="xyxy"
    )


def drawn(count: int, *, channels: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Images of noise with a bright disc or square in each of two places.

    Returns:
        float32 `[count, SIDE, SIDE, channels]`; and `"boxes"` float32 `[count, BOXES, 4]`, left, top, right and bottom
        in pixels, and `"labels"` int64 `[count, BOXES]`.
    """
    generator = np.random.default_rng(seed)
    images = generator.normal(scale=0.3, size=(count, SIDE, SIDE, channels)).astype("float32")
    sizes = generator.integers(16, SIDE // BOXES + 1, (count, BOXES))
    lefts = np.arange(BOXES) * SIDE // BOXES + generator.integers(0, SIDE // BOXES - sizes + 1)
    tops = generator.integers(0, SIDE - sizes + 1)
    labels = generator.integers(0, len(CLASSES), (count, BOXES))
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    for image, *places in zip(images, lefts, tops, sizes, labels, strict=True):
        for left, top, size, label in zip(*places, strict=True):
            across, down = np.abs(columns - left - size / 2), np.abs(rows - top - size / 2)
            inside = (across**2 + down**2 if label == 0 else np.maximum(across, down) ** 2) <= (size / 2) ** 2
            image[inside] += 1.5
    boxes = np.stack([lefts, tops, lefts + sizes, tops + sizes], axis=-1).astype("float32")
    return images, {"boxes": boxes, "labels": labels}


def mean_average_precision(found: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> float | None:
    """Average precision at an overlap (IoU) of .5, averaged over the classes that occur, by pycocotools; a fraction.

    Args:
        found: `"boxes"` `[N, K, 4]`, left, top, right and bottom, `"labels"` and `"confidence"` `[N, K]`, of which the
            first `"num_detections"` `[N]` of each image count.
        truth: `"boxes"` `[N, M, 4]` and `"labels"` `[N, M]`.

    Returns:
        None where no image has a box, so that nothing can be found.
    """
    images, classes = range(len(truth["labels"])), np.unique(truth["labels"])
    if not len(classes):
        return None

    def entries(boxes, labels, image: int):
        for (left, top, right, bottom), label in zip(boxes[image].tolist(), labels[image].tolist(), strict=True):
            sides = right - left, bottom - top
            yield {"image_id": image, "category_id": label, "bbox": [left, top, *sides], "area": sides[0] * sides[1]}

    known = [each for image in images for each in entries(truth["boxes"], truth["labels"], image)]
    scored = []
    for image in images:
        shown = {name: found[name][:, : int(found["num_detections"][image])] for name in ("boxes", "labels")}
        confident = found["confidence"][image].tolist()
        scored += [
            {**each, "score": score}
            for each, score in zip(entries(**shown, image=image), confident, strict=False)  # those that count
        ]
    if not scored:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells how long it takes
        reference = coco.COCO()
        reference.dataset = {
            "images": [{"id": image} for image in images],
            "categories": [{"id": int(label)} for label in classes],
            "annotations": [{**each, "id": number, "iscrowd": 0} for number, each in enumerate(known, start=1)],
        }
        reference.createIndex()
        evaluation = cocoeval.COCOeval(reference, reference.loadRes(scored), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, -1]  # of all sizes, at each recall of each class
    return float(precision.mean())
