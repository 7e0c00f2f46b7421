"""Sentence pairs as arrays: what the network takes, and the labels of its positions."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from examples.translation.language import Pair

PADDING, BEGIN, END = 0, 1, 2
_SPECIAL = ("", "<begin>", "<end>")


class Vocabulary:
    """Numbers of words, from 0.

    Args:
        sentences: of words; these are all that there are.
    """

    def __init__(self, sentences: Iterable[Sequence[str]]):
        self.words = [*_SPECIAL, *sorted({word for sentence in sentences for word in sentence})]
        self._numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentences: Sequence[Sequence[str]], *, length: int) -> np.ndarray:
        """int32 `[N, length]`: words, the end, padding."""
        rows = np.full((len(sentences), length), PADDING, np.int32)
        for row, sentence in zip(rows, sentences, strict=True):
            row[: len(sentence) + 1] = [*(self._numbers[word] for word in sentence), END]
        return rows

    def decode(self, rows: np.ndarray) -> list[str]:
        """The words of each row before its end, with spaces between them."""
        ends = [int(np.argmax(row == END)) if END in row else len(row) for row in rows]
        return [" ".join(self.words[number] for number in row[:end]) for row, end in zip(rows, ends, strict=True)]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Splits of sentence pairs, and the vocabularies and lengths of all of them.

    Attributes:
        splits: by name.
        english: the source's words.
        german: the target's words.
        source_length: positions of a source, its end among them.
        target_length: positions of a target, its end among them.
    """

    splits: dict[str, list[Pair]]
    english: Vocabulary
    german: Vocabulary
    source_length: int
    target_length: int

    @classmethod
    def of(cls, splits: dict[str, list[Pair]]) -> "Corpus":
        """The corpus of these splits."""
        pairs = [pair for split in splits.values() for pair in split]
        english, german = [pair.english for pair in pairs], [each for pair in pairs for each in pair.german]
        lengths = [1 + max(map(len, sentences)) for sentences in (english, german)]
        return cls(splits, Vocabulary(english), Vocabulary(german), *lengths)

    def sources(self, split: str) -> np.ndarray:
        """int32 `[N, source_length]`."""
        return self.english.encode([pair.english for pair in self.splits[split]], length=self.source_length)

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """What the network takes, and the labels, of each sentence and the first of its translations.

        Returns:
            int32 `[N, source_length + target_length]`: the source, and behind it the target from its begin to its last
            word; and int64 `[N, target_length]`: the target from its first word to its end, and -1 behind that.
        """
        targets = self.german.encode([pair.german[0] for pair in self.splits[split]], length=self.target_length)
        begins = np.full((len(targets), 1), BEGIN, np.int32)
        entered = np.concatenate([begins, np.where(targets == END, PADDING, targets)[:, :-1]], axis=1)
        labels = np.where(targets == PADDING, -1, targets).astype(np.int64)
        return np.concatenate([self.sources(split), entered], axis=1), labels
