"""The usual loader as PyTorch runs it: its DataLoader, tensors made and normalised by torch, images opened by PIL."""

import torch

from benchmarks.usual_loader import pair_batches


class ToTensor:
    """float32 `[C, H, W]` from 0 to 1, step by step as torchvision's."""

    def __call__(self, image) -> torch.Tensor:
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        pixels = pixels.view(image.height, image.width, len(image.getbands())).permute(2, 0, 1).contiguous()
        return pixels.to(torch.get_default_dtype()).div(255)


class Normalize:
    """`(pixels - mean) / std`, by channel, as torchvision's."""

    def __init__(self, mean, std):
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (mean, std))

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.clone().sub_(self.mean).div_(self.std)


class Images(torch.utils.data.Dataset):
    """One transformed image and its label."""

    def __init__(self, images, transform):
        self.images, self.transform = images, transform

    def __getitem__(self, index: int):
        return self.transform(self.images.open(index)), self.images.labels[index]


class TorchLoader:
    """Iterates over `(images, partners, labels)`; both views come as one batch, as in the public CS-KD code."""

    def __init__(self, images, transform, *, batch_size: int, workers: int):
        self.name = f"torch, {workers} workers"
        self._count = batch_size
        indices = pair_batches(images.labels, batch_size=batch_size)
        self._loader = iter(
            torch.utils.data.DataLoader(
                Images(images, transform),
                batch_sampler=([*own, *partners] for own, partners in indices),
                num_workers=workers,
                multiprocessing_context="spawn",
            )
        )

    def __iter__(self):
        return self

    def __next__(self):
        images, labels = next(self._loader)
        return images[: self._count], images[self._count :], labels[: self._count]

    def rest(self):
        """What it has made ahead is little, and made soon."""

    def close(self):
        self._loader._shutdown_workers()
