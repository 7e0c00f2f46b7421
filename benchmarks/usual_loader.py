"""A loader of image pairs as one usually writes it, to compare ours with.

Worker processes or threads each make whole batches ahead of time; an image is opened with PIL and goes through its
transforms alone, as with torchvision; the partner is a `random.choice` from a list of its class, as in the sampler of
the public CS-KD code. Nothing here imports TensorFlow, so that worker processes start clean.
"""

import collections
import math
import multiprocessing
import pathlib
import queue
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import shared_memory

import numpy as np
import PIL.Image
import PIL.ImageOps

# Batches that each worker makes ahead, as PyTorch's DataLoader does.
PREFETCH = 2


class ArrayImages:
    """Images of a `.npy` file, which all workers share."""

    def __init__(self, path: str, labels: Sequence[int]):
        self.path, self.labels = path, list(labels)
        self._images = None

    def open(self, index: int) -> PIL.Image.Image:
        if self._images is None:
            self._images = np.load(self.path, mmap_mode="r")
        return PIL.Image.fromarray(self._images[index])


class FolderImages:
    """Files of `folder/<class>/`, at any depth."""

    def __init__(self, folder: str):
        classes = sorted(path for path in pathlib.Path(folder).iterdir() if path.is_dir())
        files = [
            (str(path), label)
            for label, class_folder in enumerate(classes)
            for path in sorted(class_folder.rglob("*"))
            if path.suffix.lower() in (".jpg", ".jpeg", ".png")
        ]
        self.paths, self.labels = (list(column) for column in zip(*files, strict=True))

    def open(self, index: int) -> PIL.Image.Image:
        with open(self.paths[index], "rb") as file:
            return PIL.Image.open(file).convert("RGB")


class PadCrop:
    """Pads with zeros and crops the original size at a random place."""

    def __init__(self, padding: int):
        self.padding = padding

    def __call__(self, image: PIL.Image.Image) -> PIL.Image.Image:
        left, top = (random.randint(0, 2 * self.padding) for _ in range(2))
        padded = PIL.ImageOps.expand(image, self.padding)
        return padded.crop((left, top, left + image.width, top + image.height))


class RandomResizedCrop:
    """As torchvision's: a crop of random area and ratio, resized with PIL, which antialiases."""

    def __init__(self, size: int):
        self.size = size

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = width * height * random.uniform(0.08, 1)
            ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = random.randint(0, width - w), random.randint(0, height - h)
                return left, top, left + w, top + h
        ratio = min(max(width / height, 3 / 4), 4 / 3)
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h

    def __call__(self, image: PIL.Image.Image) -> PIL.Image.Image:
        return image.crop(self.box(*image.size)).resize((self.size, self.size), PIL.Image.Resampling.BILINEAR)


class Flip:
    """Mirrors half of the images."""

    def __call__(self, image: PIL.Image.Image) -> PIL.Image.Image:
        return image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image


class ToArray:
    """float32 `[C, H, W]` from 0 to 1, as torchvision's ToTensor."""

    def __call__(self, image: PIL.Image.Image) -> np.ndarray:
        pixels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)).astype(np.float32)
        pixels /= 255
        return pixels


class Normalize:
    """`(pixels - mean) / std`, by channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.mean, self.std = (np.asarray(values, np.float32)[:, None, None] for values in (mean, std))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        pixels -= self.mean
        pixels /= self.std
        return pixels


class Compose:
    """One transform after the other."""

    def __init__(self, *transforms: Callable):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


def pair_batches(labels: Sequence[int], *, batch_size: int) -> Iterator[tuple[list[int], list[int]]]:
    """Endless epochs of `(indices, partners)`, in whole batches."""
    members = collections.defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    order = list(range(len(labels)))
    while True:
        random.shuffle(order)
        for start in range(0, len(order) - batch_size + 1, batch_size):
            indices = order[start : start + batch_size]
            yield indices, [random.choice(members[labels[index]]) for index in indices]


class UsualLoader:
    """Iterates over `(images, partners, labels)`; a batch is valid until the next one is asked for.

    Args:
        images: `ArrayImages` or `FolderImages`.
        transform: of one PIL image, to float32 `[C, H, W]`.
        batch_size: pairs per batch.
        shape: `(C, H, W)`.
        kind: "processes" or "threads".
        workers: how many.
    """

    def __init__(self, images, transform, *, batch_size: int, shape: tuple[int, ...], kind: str, workers: int):
        self.name = f"{workers} {kind}"
        self._images = images
        self._indices = pair_batches(images.labels, batch_size=batch_size)
        # Batches asked for, handed out, made but not handed out, and the labels of those not handed out.
        self._asked, self._given, self._finished, self._labels = 0, 0, set(), {}
        self._slots = workers * PREFETCH + 1
        self._shape = (self._slots, 2, batch_size, *shape)
        self._memory = None
        size = int(np.prod(self._shape)) * 4
        if kind == "processes":
            # Batches stay in shared memory, as PyTorch's do; only their numbers pass through the queues.
            context = multiprocessing.get_context("spawn")
            self._memory = shared_memory.SharedMemory(create=True, size=size)
            name, start, new_queue = self._memory.name, context.Process, context.SimpleQueue
            self._batches = np.ndarray(self._shape, np.float32, self._memory.buf)
            where = (name, self._shape)
        else:
            start, new_queue = threading.Thread, queue.SimpleQueue
            self._batches = where = np.empty(self._shape, np.float32)
        self._done = new_queue()
        self._tasks = [new_queue() for _ in range(workers)]
        self._workers = [
            start(target=_work, args=(images, transform, where, tasks, self._done), daemon=True)
            for tasks in self._tasks
        ]
        for worker in self._workers:
            worker.start()

    def __iter__(self):
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        number = self._given
        while self._asked < number + self._slots:  # the last of them into the slot of the batch before this one
            self._ask()
        while number not in self._finished:
            self._finished.add(self._done.get())
        self._finished.remove(number)
        self._given += 1
        images, partners = self._batches[number % self._slots]
        return images, partners, self._labels.pop(number)

    def rest(self):
        """Waits until all batches are made that have been asked for, so that the workers leave the machine alone."""
        while len(self._finished) < self._asked - self._given:
            self._finished.add(self._done.get())

    def _ask(self):
        indices, partners = next(self._indices)
        self._labels[self._asked] = np.asarray([self._images.labels[index] for index in indices])
        worker = self._tasks[self._asked % len(self._tasks)]
        worker.put((self._asked, self._asked % self._slots, indices, partners))
        self._asked += 1

    def close(self):
        for tasks in self._tasks:
            tasks.put(None)
        for worker in self._workers:
            worker.join()
        self._batches = None
        if self._memory:
            self._memory.close()
            self._memory.unlink()


def _work(images, transform, where, tasks, done) -> None:
    """Makes the batches that it is asked for, each into its slot."""
    if isinstance(where, tuple):
        name, shape = where
        memory = shared_memory.SharedMemory(name=name)
        where = np.ndarray(shape, np.float32, memory.buf)
    while task := tasks.get():
        number, slot, *indices = task
        for view, shown in zip(where[slot], indices, strict=True):
            np.stack([transform(images.open(index)) for index in shown], out=view)
        done.put(number)
