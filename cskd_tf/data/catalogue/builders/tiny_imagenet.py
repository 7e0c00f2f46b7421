"""TinyImageNet: 200 classes of ImageNet, 500 training and 50 validation images each, 64 x 64 pixels."""

import io
import zipfile
from collections.abc import Iterator, Mapping

import tensorflow_datasets as tfds

from cskd_tf.data.catalogue.builders import archives
from cskd_tf.errors import UserError

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
SHA256 = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"
ROOT = "tiny-imagenet-200"
ANNOTATIONS = f"{ROOT}/val/val_annotations.txt"


class TinyImagenet(archives.ArchiveBuilder, tfds.core.GeneratorBasedBuilder):
    """Splits `train` and `validation`; the published test images have no labels and are left out.

    The classes are WordNet ids in sorted order, as an image folder has them.
    """

    HOMEPAGE = "http://cs231n.stanford.edu"
    URLS = (URL,)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[str, dict]]]:
        path = self.builder_config.archive or self.published(dl_manager, URL, algorithm="sha256", expected=SHA256)
        with archives.whole(path, "zip"):
            archive = zipfile.ZipFile(path)
        names = archive.namelist()
        archives.refuse_outside(names, path)
        archives.refuse_large({member.filename: member.file_size for member in archive.infolist()}, path)
        images = [name for name in names if name.endswith(".JPEG")]
        training = {name: name.split("/")[2] for name in images if name.startswith(f"{ROOT}/train/")}
        if not training or ANNOTATIONS not in names:
            raise UserError(
                f"Expected an archive with {ROOT}/train/<class>/images/*.JPEG and {ANNOTATIONS}. Received: {path}, "
                f"with {len(training)} training images and {'the' if ANNOTATIONS in names else 'no'} annotations"
            )
        with archives.whole(path, "zip"):
            lines = archive.read(ANNOTATIONS).decode().splitlines()
        fields = [line.split("\t") for line in lines if line.strip()]
        if broken := [line for line in fields if len(line) < 2]:
            raise UserError(f"Expected lines FILE<tab>CLASS in {ANNOTATIONS} of {path}. Received: {broken[0]}")
        validation = {f"{ROOT}/val/images/{name}": label for name, label, *_ in fields}
        archives.refuse_missing(set(validation), set(images), path, ANNOTATIONS)
        classes = archives.check_labels(
            train=training.values(), evaluation=validation.values(), path=path, source=ANNOTATIONS
        )
        self.info.features["label"].names = classes
        return {
            "train": self._generate_examples(archive, training),
            "validation": self._generate_examples(archive, validation),
        }

    def _generate_examples(self, archive: zipfile.ZipFile, labels: Mapping[str, str]) -> Iterator[tuple[str, dict]]:
        for name, label in labels.items():
            with archives.whole(str(archive.filename), "zip"):
                image = archive.read(name)
            yield name, {"image": io.BytesIO(image), "label": label, "file_name": name}
