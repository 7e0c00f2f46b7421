"""Sentences drawn from a small grammar of English, each with translations into German, by a seed.

What makes it a translation and not a table of words: articles and adjectives agree with the noun's gender, number and
case, verbs with their subject; a second verb moves to the end of its clause, and every verb after *weil* does. What
makes its targets soft: synonyms, some of another gender, an adverb behind the verb or in front of the sentence, *weil*
or *denn*, which change the order of what follows. A sentence has many right translations; each is drawn by chance.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from examples.translation.lexicon import ADJECTIVES, ADVERBS, MODALS, NOUNS, VERBS, Noun, Verb

ARTICLES = {
    "the": {"m": ("der", "den"), "f": ("die", "die"), "n": ("das", "das"), "plural": ("die", "die")},
    "a": {"m": ("ein", "einen"), "f": ("eine", "eine"), "n": ("ein", "ein")},
    "some": {"plural": ("einige", "einige")},
}
# Of an adjective behind the article, in the nominative and the accusative.
ENDINGS = {
    "the": {"m": ("e", "en"), "f": ("e", "e"), "n": ("e", "e"), "plural": ("en", "en")},
    "a": {"m": ("er", "en"), "f": ("e", "e"), "n": ("es", "es")},
    "some": {"plural": ("e", "e")},
}
FIRST_CHOICE = 0.7  # how often the first of several words is taken


@dataclasses.dataclass(frozen=True)
class NounPhrase:
    """An article, perhaps an adjective, and a noun. Example: `the small dogs`."""

    article: str
    adjective: str | None
    noun: Noun
    plural: bool

    def english(self) -> list[str]:
        noun = self.noun.english[self.plural]
        return [self.article, *([self.adjective] if self.adjective else []), noun]

    def german(self, choose, *, accusative: bool) -> list[str]:
        gender, *forms = choose(self.noun.german)
        kind = "plural" if self.plural else gender
        words = [ARTICLES[self.article][kind][accusative]]
        if self.adjective:
            words.append(choose(ADJECTIVES[self.adjective]) + ENDINGS[self.article][kind][accusative])
        return [*words, forms[self.plural]]


@dataclasses.dataclass(frozen=True)
class Clause:
    """Who does what to whom, and perhaps when or where."""

    subject: NounPhrase
    verb: Verb
    modal: str | None
    object: NounPhrase
    adverb: str | None

    def english(self) -> list[str]:
        infinitive, singular = self.verb.english
        verb = [self.modal, infinitive] if self.modal else [infinitive if self.subject.plural else singular]
        return [*self.subject.english(), *verb, *self.object.english(), *([self.adverb] if self.adverb else [])]

    def german(self, choose, *, verb_last: bool) -> list[str]:
        subject = self.subject.german(choose, accusative=False)
        patient = self.object.german(choose, accusative=True)
        infinitive, singular = choose(self.verb.german)
        finite, rest = (infinitive if self.subject.plural else singular), []
        if self.modal:
            finite, rest = MODALS[self.modal][self.subject.plural], [infinitive]
        adverb = [ADVERBS[self.adverb]] if self.adverb else []
        if verb_last:
            return [*subject, *adverb, *patient, *rest, finite]
        if adverb and choose((False, True)):
            return [*adverb, finite, *subject, *patient, *rest]
        return [*subject, finite, *adverb, *patient, *rest]


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A clause, and perhaps its reason."""

    clause: Clause
    reason: Clause | None

    def english(self) -> list[str]:
        return [*self.clause.english(), *(["because", *self.reason.english()] if self.reason else [])]

    def german(self, generator: np.random.Generator) -> list[str]:
        """One of its translations."""

        def choose(options: Sequence):
            return options[0] if len(options) == 1 or generator.random() < FIRST_CHOICE else options[1]

        words = self.clause.german(choose, verb_last=False)
        if self.reason:
            conjunction = choose(("weil", "denn"))
            words += [conjunction, *self.reason.german(choose, verb_last=conjunction == "weil")]
        return words


def _noun_phrase(generator: np.random.Generator, *, acts: bool) -> NounPhrase:
    nouns = [noun for noun in NOUNS if noun.acts] if acts else NOUNS
    plural = bool(generator.random() < 0.4)
    article = generator.choice(["the", "some"] if plural else ["the", "a"])
    adjective = str(generator.choice(list(ADJECTIVES))) if generator.random() < 0.5 else None
    return NounPhrase(str(article), adjective, nouns[generator.integers(len(nouns))], plural)


def _clause(generator: np.random.Generator) -> Clause:
    modal = str(generator.choice(list(MODALS))) if generator.random() < 0.3 else None
    adverb = str(generator.choice(list(ADVERBS))) if generator.random() < 0.4 else None
    verb = VERBS[generator.integers(len(VERBS))]
    subject, patient = _noun_phrase(generator, acts=True), _noun_phrase(generator, acts=False)
    return Clause(subject, verb, modal, patient, adverb)


def sentence(generator: np.random.Generator) -> Sentence:
    """A sentence drawn by chance."""
    return Sentence(_clause(generator), _clause(generator) if generator.random() < 0.4 else None)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A sentence and some of its translations, in words."""

    english: list[str]
    german: list[list[str]]


def pairs(counts: Sequence[int], *, references: Sequence[int], seed: int) -> list[list[Pair]]:
    """Splits of sentence pairs, of which no two share an English sentence.

    Args:
        counts: how many sentences each split has.
        references: translations of each of its sentences, drawn independently; two may be the same.
        seed: of everything.
    """
    generator, seen, splits = np.random.default_rng(seed), set(), []
    for count, drawn in zip(counts, references, strict=True):
        split: list[Pair] = []
        while len(split) < count:
            new = sentence(generator)
            english = new.english()
            if tuple(english) not in seen:
                seen.add(tuple(english))
                split.append(Pair(english, [new.german(generator) for _ in range(drawn)]))
        splits.append(split)
    return splits
