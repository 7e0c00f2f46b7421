"""What an exported classifier computes, in TensorFlow's operations alone: from pixels, or encoded images, to names."""

import os
from collections.abc import Callable, Sequence

import tensorflow as tf

from cskd_tf.data.images.decode import decode, split_resize
from cskd_tf.data.images.transforms import Compose, Resize, Transform, apply
from cskd_tf.errors import UserError
from cskd_tf.serving.calibration import Calibration
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.label_kinds import check_one_class

TOP = 5  # classes that are named, at most
# Inputs: TensorFlow Serving takes what ends in _bytes for no text.
IMAGES, IMAGE_BYTES, PIXELS = "images", "image_bytes", "pixels"
Outputs = dict[str, tf.Tensor]


class Serving:
    """The functions of a trained classifier that servers and other runtimes call.

    Three kinds of input lead to the same outputs: `of_pixels`, images that have been resized; `of_images`, raw images
    of one size; `of_bytes`, JPEG and PNG files. Everything else is inside: decoding as the pipeline decodes, resizing,
    normalisation, the network, its temperature, the sets and the names.

    Example:
        >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
        >>> _, transform = cskd_tf.data.build_transforms(cskd_tf.data.Augmentation(
        ...     image_size=4, crop="none", flip=False, mean=(0.5,), std=(0.5,)))
        >>> serving = Serving(cskd_tf.SelfDistiller(network), transform, class_names=["cat", "dog", "owl"])
        >>> outputs = serving.of_images(tf.zeros([4, 6, 8, 1], tf.uint8))
        >>> {name: tuple(value.shape) for name, value in outputs.items()}
        {'probabilities': (4, 3), 'confidence': (4,), 'top_classes': (4, 3), 'top_probabilities': (4, 3), 'top_names': \
(4, 3)}

    Args:
        model: of a network that has been built, for images of one size.
        transform: from raw images to the network's input, at evaluation; it begins by resizing.
        class_names: C names.
        calibration: what was fitted for it.

    Attributes:
        size: height and width that images are resized to.
        crop: the side of the square in their middle that is resized, over their shorter side.
        channels: of images, 1 or 3.
        class_names: as given.
        calibration: as given.
        model: as given.

    Raises:
        UserError: a model that is not built, or of another kind of labels than one class of each image, names of
            another number of classes, a transform that does not begin by resizing, or to another size than the network
            takes, or a network without an embedding.
    """

    def __init__(
        self,
        model: SelfDistiller,
        transform: Transform,
        *,
        class_names: Sequence[str],
        calibration: Calibration = Calibration(),
    ):
        if not model.built:
            raise UserError("Expected a model that is built, as by fit. Received: one that has not seen an image")
        check_one_class(model, expected="Expected a model whose images have one class each, whose softmax is served.")
        if (classes := model.expectations(training=False).num_classes) != len(class_names):
            raise UserError(f"Expected a name for each of the {classes} classes. Received: {len(class_names)} names")
        resize, rest = split_resize(transform)
        if resize is None:
            raise UserError(f"Expected a transform that begins by resizing, as at evaluation. Received: {transform}")
        self._transform, self._resize, self._normalize, self.model = transform, resize, Compose(rest), model
        self.size, self.channels = resize.size, int(model.input_shape[-1])
        if model._network_outputs.lacks_embedding:
            raise self._lacks_embedding()
        taken = tuple(model.input_shape[1:3])
        if any(each not in (None, self.size) for each in taken):
            raise UserError(
                f"Expected a transform to the size of the images that the network takes, {taken[0]} x {taken[1]}. "
                f"Received: one to {self.size} x {self.size}"
            )
        large = 2.0**16  # beyond what its rounding to pixels can tell
        self.crop = float(resize.boxes(tf.fill([1, 2], large), None)[0, 2]) / large
        self.class_names, self.calibration = list(class_names), calibration
        self._names = [os.fsencode(name) for name in class_names]  # of folders, which may be no Unicode
        pixels = tf.TensorSpec([None, self.size, self.size, self.channels], tf.float32, name=PIXELS)
        # A function of its own, which a SavedModel of several signatures holds once.
        self._run = tf.function(self._features, input_signature=[pixels], autograph=False)

    def of_pixels(self, pixels: tf.Tensor) -> Outputs:
        """Numbers alone, of images that have been cropped and resized to `size`.

        Args:
            pixels: float32 `[N, size, size, channels]`, from 0 to 255.

        Returns:
            - `probabilities`, float32 `[N, C]`, after the temperature;
            - `confidence`, float32 `[N]`, the largest of them;
            - `top_classes`, int32 `[N, k]`, the k = min(5, C) most probable classes, and `top_probabilities`, float32;
            - `conformal_set`, bool `[N, C]`, whether each class is in the set, where there are sets;
            - `embedding`, float32 `[N, D]`, and `logits`, float32 `[N, C]`, before the temperature.
        """
        features = self._run(pixels)
        return {**self._classified(features), **features}

    def of_images(self, images: tf.Tensor) -> Outputs:
        """As `of_pixels`, with `top_names`, string `[N, k]`, but without `embedding` and `logits`.

        Args:
            images: uint8 `[N, H, W, channels]`, of any size.
        """
        return self._named(self._run_any(self._resized(images)))

    def numbers_of_images(self, images: tf.Tensor) -> Outputs:
        """As `of_pixels`, of the images that `of_images` takes."""
        return self.of_pixels(self._resized(images))

    def of_bytes(self, contents: tf.Tensor) -> Outputs:
        """As `of_images`, of JPEG and PNG files, string `[N]`, each of its own size."""
        return self._named(self._run_any(self._decoded(contents)))

    def features_of_images(self, images: tf.Tensor) -> Outputs:
        """`embedding` and `logits` of `of_pixels`, of the images that `of_images` takes."""
        return self._run_any(self._resized(images))

    def features_of_bytes(self, contents: tf.Tensor) -> Outputs:
        """`embedding` and `logits` of `of_pixels`, of the files that `of_bytes` takes."""
        return self._run_any(self._decoded(contents))

    @property
    def resize(self) -> Resize:
        """From raw images, of one size, to pixels of `size`."""
        return self._resize

    def anew(self) -> "Serving":
        """The same, traced again: under another precision, say."""
        return Serving(self.model, self._transform, class_names=self.class_names, calibration=self.calibration)

    @property
    def signatures(self) -> dict[str, tuple[Callable[[tf.Tensor], Outputs], tf.TensorSpec]]:
        """What a SavedModel offers by name: a function, and its input. The first is what servers call by default."""
        images = tf.TensorSpec([None, None, None, self.channels], tf.uint8, name=IMAGES)
        contents = tf.TensorSpec([None], tf.string, name=IMAGE_BYTES)
        return {
            "serve": (self.of_images, images),
            "serve_bytes": (self.of_bytes, contents),
            "embeddings": (self.features_of_images, images),
            "embeddings_bytes": (self.features_of_bytes, contents),
        }

    def _resized(self, images: tf.Tensor) -> tf.Tensor:
        # TensorFlow Serving does not compare what it is given with the signature's shape.
        shape = tf.shape(images)
        fits = tf.reduce_all(shape[1:3] > 0) & tf.equal(shape[-1], self.channels)
        expected = f"Expected images [N, H, W, {self.channels}] of at least one pixel. Received, of shape:"
        with tf.control_dependencies(
            [tf.raw_ops.Assert(condition=fits, data=[tf.constant(expected), shape], summarize=4)]
        ):
            return self._resize(tf.cast(images, tf.float32))

    def _decoded(self, contents: tf.Tensor) -> tf.Tensor:
        shape = (self.size, self.size, self.channels)

        def resized(content: tf.Tensor) -> tf.Tensor:
            image = decode(content, channels=self.channels)
            return tf.ensure_shape(self._resize(tf.cast(image[None], tf.float32))[0], shape)

        return tf.map_fn(resized, contents, fn_output_signature=tf.TensorSpec(shape, tf.float32))

    def _features(self, pixels: tf.Tensor) -> Outputs:
        seeds = tf.zeros([tf.shape(pixels)[0], 2], tf.int32)
        outputs = self.model.outputs(apply(self._normalize, pixels, seeds), training=False)
        if "embedding" not in outputs:  # of a subclassed network, whose layers are known by now
            raise self._lacks_embedding()
        return {name: tf.cast(outputs[name], tf.float32) for name in ("embedding", "logits")}

    def _lacks_embedding(self) -> UserError:
        return UserError(
            "Expected a network with an embedding, which a dense layer reads, or the layer that embedding_layer names. "
            f"Received: {self.model.network.name!r}, without one"
        )

    def _run_any(self, pixels: tf.Tensor) -> Outputs:
        """`_run` also of no images, which TensorFlow's convolutions that are fused with what follows do not take."""
        count = tf.shape(pixels)[0]
        one_more = tf.zeros([tf.cast(count == 0, tf.int32), *pixels.shape[1:]])
        return {name: value[:count] for name, value in self._run(tf.concat([pixels, one_more], axis=0)).items()}

    def _classified(self, features: Outputs) -> Outputs:
        logits, calibration = features["logits"], self.calibration
        probabilities = tf.nn.softmax(logits / (calibration.temperature or 1.0))
        top = tf.math.top_k(probabilities, k=min(TOP, len(self.class_names)))
        outputs = {
            "probabilities": probabilities,
            "confidence": top.values[:, 0],
            "top_classes": top.indices,
            "top_probabilities": top.values,
        }
        if calibration.threshold is not None:
            outputs["conformal_set"] = tf.nn.softmax(logits) >= calibration.threshold
        return outputs

    def _named(self, features: Outputs) -> Outputs:
        outputs = self._classified(features)
        return {**outputs, "top_names": tf.gather(tf.constant(self._names), outputs["top_classes"])}
