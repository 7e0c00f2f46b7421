"""MIT indoor scenes (Quattoni and Torralba, 2009): 67 classes, 80 training and 20 test images each."""

import io
import pathlib
import tarfile
from collections.abc import Iterator

import tensorflow_datasets as tfds

from cskd_tf.data.catalogue.builders import archives
from cskd_tf.errors import UserError

URL = "http://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar"
SHA1 = "0b252516e746ba428b96af408d2e8162d9b08ac5"
LIST_URLS = {
    "train": "http://web.mit.edu/torralba/www/TrainImages.txt",
    "test": "http://web.mit.edu/torralba/www/TestImages.txt",
}


class Mit67(archives.ArchiveBuilder, tfds.core.GeneratorBasedBuilder):
    """Splits `train` and `test`, as in the official lists; the archive's other images belong to neither.

    Beside any other archive than the published one lie its own `TrainImages.txt` and `TestImages.txt`.
    """

    HOMEPAGE = "http://web.mit.edu/torralba/www/indoor.html"
    URLS = (URL, *LIST_URLS.values())
    LISTS = tuple(map(archives.file_name, LIST_URLS.values()))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[str, dict]]]:
        given = self.builder_config.archive
        path = pathlib.Path(given or self.published(dl_manager, URL, algorithm="sha1", expected=SHA1))
        names = {}
        for split, url in LIST_URLS.items():
            file = path.with_name(archives.file_name(url)) if given else self.published(dl_manager, url)
            if not file.is_file():
                raise UserError(f"Expected the list of the {split} images beside {path}. Received: no file {file}")
            names[split] = [
                f"Images/{line.strip()}" for line in file.read_text(errors="replace").splitlines() if line.strip()
            ]
        with archives.whole(path, "tar"), tarfile.open(path) as archive:
            sizes = {member.name: member.size for member in archive}
        present = list(sizes)
        archives.refuse_outside(present, path)
        archives.refuse_large(
            {name: sizes[name] for name in present if name in {*names["train"], *names["test"]}}, path
        )
        for split, url in LIST_URLS.items():
            archives.refuse_missing(set(names[split]), set(present), path, archives.file_name(url))
        if twice := sorted(set(names["train"]) & set(names["test"])):
            raise UserError(f"Expected no image in both lists. Received: {len(twice)} in both: {twice[:10]}")
        self.info.features["label"].names = archives.check_labels(
            train=map(_label, names["train"]), evaluation=map(_label, names["test"]), path=path, source=self.LISTS[1]
        )
        return {split: self._generate_examples(path, set(names[split])) for split in LIST_URLS}

    def _generate_examples(self, path: pathlib.Path, names: set[str]) -> Iterator[tuple[str, dict]]:
        with archives.whole(path, "tar"), tarfile.open(path) as archive:
            for member in archive:
                if member.name in names:
                    file = archive.extractfile(member) if member.isfile() else None
                    if file is None:  # but a folder, a link or a device
                        raise UserError(f"Expected {member.name} to be a file. Received: {path}, where it is none")
                    image = io.BytesIO(file.read())
                    yield member.name, {"image": image, "label": _label(member.name), "file_name": member.name}


def _label(name: str) -> str:
    """The class of an image, which is the folder it is in."""
    return name.split("/")[1]
