"""Fine-tunes a detector whose backbone a run of this package has trained, in kind Table 5 of the PS-KD paper.

`python -m examples.detection --classifier=workdirs/mine/classifier.keras` puts the run's network under KerasHub's
RetinaNet, trains it on images that are drawn here, discs and squares on noise, and prints the mAP at an overlap of .5
on images that it has not seen. The paper has Faster R-CNN, ResNet-152 and PASCAL VOC instead. It needs
`requirements-detection.txt`.
"""

import keras
import rich
from absl import app, flags

from examples.detection.retinanet import detector, drawn, mean_average_precision

CLASSIFIER = flags.DEFINE_string("classifier", None, "A run's classifier.keras, of a network for 224 pixels.")
STEPS = flags.DEFINE_integer("steps", 200, "Of fine-tuning.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images.")
TEST_IMAGES = flags.DEFINE_integer("test_images", 100, "To measure on.")
LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Of Adam.")
flags.mark_flag_as_required("classifier")


def main(argv):
    del argv
    keras.utils.set_random_seed(0)
    model = detector(CLASSIFIER.value)
    channels = model.backbone.image_shape[-1]
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE.value))
    images, boxes = drawn(STEPS.value * BATCH_SIZE.value, channels=channels, seed=0)
    model.fit(images, boxes, batch_size=BATCH_SIZE.value, shuffle=False, verbose=0)
    images, boxes = drawn(TEST_IMAGES.value, channels=channels, seed=1)
    found = model.predict(images, batch_size=BATCH_SIZE.value, verbose=0)
    rich.print(f"mAP at an overlap of .5: {100 * mean_average_precision(found, boxes):.1f} %")


if __name__ == "__main__":
    app.run(main)
