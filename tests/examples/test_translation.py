"""The synthetic sentence pairs, the Transformer, its translations, and what they are worth."""

import functools
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from cskd_tf.methods import PSKD
from cskd_tf.training.distiller import SelfDistiller
from examples.translation import language, training
from examples.translation.corpus import BEGIN, END, PADDING, Corpus, Vocabulary
from examples.translation.decoding import bleu, greedy
from examples.translation.language import Clause, NounPhrase, Pair, Sentence
from examples.translation.lexicon import NOUNS, VERBS
from examples.translation.training import measured, trained
from examples.translation.transformer import positions, transformer
from tests.helpers import ROOT, softmax

NOUN = {noun.english[0]: noun for noun in NOUNS}
VERB = {verb.english[0]: verb for verb in VERBS}


class Chosen:
    """A generator that always takes the first word, or the other one."""

    def __init__(self, *, first):
        self.value = 0.0 if first else 1.0

    def random(self):
        return self.value


def clause(subject, verb, patient, *, modal=None, adverb=None):
    article, adjective, noun, plural = subject
    other = NounPhrase(patient[0], patient[1], NOUN[patient[2]], patient[3])
    return Clause(NounPhrase(article, adjective, NOUN[noun], plural), VERB[verb], modal, other, adverb)


DOG, LETTER = ("the", "small", "dog", False), ("a", "old", "letter", False)
WOMEN, BOOKS = ("some", "young", "woman", True), ("the", None, "book", True)
# A sentence, its only English form, and its translations by the first and by the other of all words.
SENTENCES = [
    (
        Sentence(clause(DOG, "see", LETTER, adverb="today"), None),
        "the small dog sees a old letter today",
        "der kleine Hund sieht heute einen alten Brief",
        "heute erblickt der winzige Hund ein altes Schreiben",
    ),
    (
        Sentence(clause(WOMEN, "bring", BOOKS, modal="must"), None),
        "some young women must bring the books",
        "einige junge Frauen müssen die Bücher bringen",
        "einige junge Damen müssen die Bücher holen",
    ),
    (
        Sentence(clause(DOG, "love", BOOKS), clause(WOMEN, "carry", LETTER, modal="can", adverb="often")),
        "the small dog loves the books because some young women can carry a old letter often",
        "der kleine Hund liebt die Bücher weil einige junge Frauen oft einen alten Brief tragen können",
        "der winzige Hund liebt die Bücher denn oft können einige junge Damen ein altes Schreiben tragen",
    ),
]


@pytest.mark.parametrize(("sentence", "english", "first", "other"), SENTENCES)
def test_translations_by_hand(sentence, english, first, other):
    assert " ".join(sentence.english()) == english
    assert " ".join(sentence.german(Chosen(first=True))) == first
    assert " ".join(sentence.german(Chosen(first=False))) == other


def test_a_seed_makes_the_same_pairs_and_no_sentence_twice():
    made = [language.pairs((200, 50), references=(1, 4), seed=seed) for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]
    train, test = made[0]
    assert [len(pair.german) for pair in (train[0], test[0])] == [1, 4]
    assert len({tuple(pair.english) for pair in train + test}) == 250
    assert np.mean([len({tuple(words) for words in pair.german}) > 1 for pair in test]) > 0.5


def test_arrays_by_hand():
    corpus = Corpus.of({"train": [Pair(["a"], [["x", "y"]]), Pair(["b", "a"], [["y"]])]})
    a, b, x, y = 3, 4, 3, 4
    tokens, labels = corpus.arrays("train")
    assert tokens.tolist() == [[a, END, PADDING, BEGIN, x, y], [b, a, END, BEGIN, y, PADDING]]
    assert labels.tolist() == [[x, y, END], [y, END, -1]]
    assert corpus.german.decode(np.array([[x, y, END], [y, END, PADDING], [x, x, x]])) == ["x y", "y", "x x x"]
    assert len(Vocabulary([["x"], ["y", "x"]])) == 5


@pytest.fixture
def small():
    """Makes a Transformer of 9 and 7 words, of the same weights for all lengths."""

    def make(source_length, target_length):
        keras.utils.set_random_seed(0)
        lengths = {"source_length": source_length, "target_length": target_length}
        return transformer(source_words=9, target_words=7, layers=1, width=8, heads=2, hidden=16, **lengths)

    return make


def test_padding_and_what_comes_later_change_no_logits(small):
    source, target = np.array([[3, 4, END, PADDING], [5, END, PADDING, PADDING]]), np.array([[BEGIN, 3, 4], [1, 5, 6]])
    logits = small(4, 3)(np.concatenate([source, target], axis=1)).numpy()
    padded = np.concatenate([np.pad(source, [(0, 0), (0, 3)]), np.pad(target, [(0, 0), (0, 2)])], axis=1)
    np.testing.assert_allclose(small(7, 5)(padded)[:, :3], logits, atol=1e-5)
    target[:, 2] = 2
    later = small(4, 3)(np.concatenate([source, target], axis=1)).numpy()
    np.testing.assert_allclose(later[:, :2], logits[:, :2], atol=1e-6)
    assert np.abs(later[:, 2] - logits[:, 2]).max() > 1e-2


def test_positions_are_sines_and_cosines():
    expected = [np.sin(3), np.cos(3), np.sin(3 / 100), np.cos(3 / 100)]
    np.testing.assert_allclose(positions(5, width=4)[0, 3], expected, rtol=1e-6)


def test_greedy_words_are_the_most_probable_ones_behind_those_before(small):
    source = np.array([[3, 4, END, PADDING], [5, 8, 7, END], [6, END, PADDING, PADDING]], np.int32)
    network = small(4, 6)
    words = greedy(network, source, length=6)
    entered = np.concatenate([np.full((3, 1), BEGIN), words[:, :-1]], axis=1)
    best = network(np.concatenate([source, entered], axis=1)).numpy().argmax(axis=-1)
    ended = np.cumsum(words == END, axis=1) - (words == END) > 0
    np.testing.assert_array_equal(words, np.where(ended, PADDING, best))


def test_bleu_by_hand():
    """4 of 5 words, 3 of 4 pairs, 2 of 3 triples and 1 of 2 quadruples; then another right translation."""
    assert bleu(["a b c d e"], [["a b c d f"]]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu(["a b c d e"], [["a b c d f", "a b c d e"]]) == pytest.approx(1)
    short = ["a b c d", "e f g h"], [["a b c d"], ["e f g h i j"]]  # of 8 words where 10 are right
    assert bleu(*short) == pytest.approx(np.exp(1 - 10 / 8))


@pytest.mark.thorough
def test_the_second_epoch_with_pskd_has_the_first_ones_predictions_in_its_targets(monkeypatch):
    """Of each word, at a rate at which no weight moves; step by step, as a graph of two steps takes longer to make."""
    stepwise = functools.partialmethod(SelfDistiller.compile, run_eagerly=True)
    monkeypatch.setattr(SelfDistiller, "compile", stepwise)
    made = [(["a"], ["x", "y"]), (["b", "a"], ["y"]), (["b"], ["y", "x"]), (["a", "b"], ["x"])]
    corpus = Corpus.of({"train": [Pair(english, [german]) for english, german in made]})
    sizes = {"layers": 1, "width": 8, "heads": 1, "hidden": 8, "dropout": 0.0}
    model = trained(corpus, [PSKD(alpha=0.7)], seed=0, epochs=2, batch_size=4, learning_rate=1e-12, **sizes)
    tokens, labels = corpus.arrays("train")
    probabilities = softmax(model.network(tokens).numpy().astype(float))[labels >= 0]
    of_words = -np.log(probabilities[np.arange(len(probabilities)), labels[labels >= 0]]).mean()
    of_predictions = -(probabilities * np.log(probabilities)).sum(axis=1).mean()
    expected = [of_words, 0.3 * of_words + 0.7 * of_predictions]
    assert model.history.history["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_training_with_pskd_and_what_is_measured_of_it():
    train, test = language.pairs((40, 8), references=(1, 2), seed=0)
    corpus = Corpus.of({"train": train, "test": test})
    options = {"batch_size": 20, "learning_rate": 1e-2, "layers": 1, "width": 16}
    model = trained(corpus, [PSKD(alpha=0.7)], seed=0, epochs=10, **options)
    losses = model.history.history["loss"]
    assert losses[-1] < 0.95 * losses[0]
    assert float(model.methods[0].share.value) == pytest.approx(0.7)
    values = measured(model, corpus)
    assert 0 <= values["bleu"] <= 1
    tokens, labels = corpus.arrays("test")
    probabilities = softmax(model.network(tokens).numpy())
    given = np.take_along_axis(probabilities, np.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    assert values["nll"] == pytest.approx(-np.log(given[labels >= 0]).mean(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("methods", [[], [PSKD(alpha=0.7)]], ids=["cross-entropy", "PS-KD"])
def test_it_learns_to_translate(methods):
    """An untrained network's translations share no four words in a row with a right one."""
    train, test = language.pairs((500, 100), references=(1, 4), seed=0)
    corpus = Corpus.of({"train": train, "test": test})
    options = {"batch_size": 64, "learning_rate": 2e-3}
    model = trained(corpus, methods, seed=0, epochs=80, **options)
    assert measured(model, corpus)["bleu"] > 0.5
    untrained = trained(corpus, [], seed=0, epochs=1, **{**options, "learning_rate": 1e-9})
    assert measured(untrained, corpus)["bleu"] < 0.05


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_its_results(tmp_path):
    for folder in ("benchmarks", "cskd_tf", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    toy = ["--epochs=1", "--seeds=2", "--sentences=40", "--test_sentences=8", "--alpha=0.5", "--source=network"]
    command = [sys.executable, "-m", "examples.translation", *toy]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    lines = json.loads((tmp_path / "results" / "translation.json").read_text())
    names = ["cross-entropy", "LabelSmoothing(epsilon=0.1)", "PSKD(alpha=0.5, source='network')"]
    made = [(line["methods"], line["seed"]) for line in lines]
    assert made == [(name, seed) for seed in (0, 1) for name in names]
    for name in names:
        values = [line["nll"] for line in lines if line["methods"] == name]
        assert len(values) == 2
        assert f"{np.mean(values):.3f} ±" in finished.stdout


def test_a_seed_is_of_the_weights_and_the_rate_rises_for_a_tenth_of_the_steps_and_falls_to_nothing(monkeypatch):
    seen = []
    monkeypatch.setattr(SelfDistiller, "fit", lambda self, *_, **__: seen.append(self))  # what it would begin with
    corpus = Corpus.of({"train": [Pair(["a"], [["x"]]), Pair(["b"], [["y"]])]})
    for seed in (0, 0, 1):
        training.trained(corpus, [], seed=seed, epochs=20, batch_size=1, learning_rate=0.5, layers=1, width=8)
    first, again, other = (model.network.get_weights()[0] for model in seen)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    optimizer = seen[0].optimizer
    rates = [float(keras.ops.convert_to_numpy(optimizer._learning_rate(step))) for step in (0, 2, 4, 22, 40)]
    assert rates == pytest.approx([0.0, 0.25, 0.5, 0.25, 0.0], abs=1e-6)
    assert optimizer.beta_2 == 0.98
