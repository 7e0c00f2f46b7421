"""The words of the fragment of English and German that sentence pairs are made of."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Noun:
    """A noun of both languages, none of which changes in the accusative.

    Attributes:
        english: singular and plural.
        german: ways to say it, each as gender (m, f, n), singular and plural.
        acts: whether it can see or carry something.
    """

    english: tuple[str, str]
    german: tuple[tuple[str, str, str], ...]
    acts: bool = False


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb with an object in the accusative.

    Attributes:
        english: infinitive and third person singular; the plural is the infinitive.
        german: ways to say it, each as infinitive and third person singular; the plural is the infinitive.
    """

    english: tuple[str, str]
    german: tuple[tuple[str, str], ...]


NOUNS = (
    Noun(("dog", "dogs"), (("m", "Hund", "Hunde"),), acts=True),
    Noun(("teacher", "teachers"), (("m", "Lehrer", "Lehrer"),), acts=True),
    Noun(("doctor", "doctors"), (("m", "Arzt", "Ärzte"), ("m", "Mediziner", "Mediziner")), acts=True),
    Noun(("brother", "brothers"), (("m", "Bruder", "Brüder"),), acts=True),
    Noun(("bird", "birds"), (("m", "Vogel", "Vögel"),), acts=True),
    Noun(("cat", "cats"), (("f", "Katze", "Katzen"),), acts=True),
    Noun(("woman", "women"), (("f", "Frau", "Frauen"), ("f", "Dame", "Damen")), acts=True),
    Noun(("sister", "sisters"), (("f", "Schwester", "Schwestern"),), acts=True),
    Noun(("child", "children"), (("n", "Kind", "Kinder"),), acts=True),
    Noun(("girl", "girls"), (("n", "Mädchen", "Mädchen"),), acts=True),
    Noun(("horse", "horses"), (("n", "Pferd", "Pferde"), ("n", "Ross", "Rosse")), acts=True),
    Noun(("letter", "letters"), (("m", "Brief", "Briefe"), ("n", "Schreiben", "Schreiben"))),
    Noun(("apple", "apples"), (("m", "Apfel", "Äpfel"),)),
    Noun(("table", "tables"), (("m", "Tisch", "Tische"),)),
    Noun(("flower", "flowers"), (("f", "Blume", "Blumen"),)),
    Noun(("lamp", "lamps"), (("f", "Lampe", "Lampen"), ("f", "Leuchte", "Leuchten"))),
    Noun(("bottle", "bottles"), (("f", "Flasche", "Flaschen"),)),
    Noun(("book", "books"), (("n", "Buch", "Bücher"),)),
    Noun(("picture", "pictures"), (("n", "Bild", "Bilder"), ("n", "Gemälde", "Gemälde"))),
    Noun(("bicycle", "bicycles"), (("n", "Fahrrad", "Fahrräder"), ("n", "Rad", "Räder"))),
)
VERBS = (
    Verb(("see", "sees"), (("sehen", "sieht"), ("erblicken", "erblickt"))),
    Verb(("find", "finds"), (("finden", "findet"), ("entdecken", "entdeckt"))),
    Verb(("carry", "carries"), (("tragen", "trägt"),)),
    Verb(("watch", "watches"), (("beobachten", "beobachtet"), ("betrachten", "betrachtet"))),
    Verb(("seek", "seeks"), (("suchen", "sucht"),)),
    Verb(("love", "loves"), (("lieben", "liebt"),)),
    Verb(("draw", "draws"), (("zeichnen", "zeichnet"),)),
    Verb(("bring", "brings"), (("bringen", "bringt"), ("holen", "holt"))),
)
# Stems, to which an ending is added.
ADJECTIVES = {
    "small": ("klein", "winzig"),
    "big": ("groß",),
    "old": ("alt",),
    "young": ("jung",),
    "beautiful": ("schön", "hübsch"),
    "new": ("neu",),
    "heavy": ("schwer",),
    "strange": ("seltsam", "merkwürdig"),
}
ADVERBS = {"today": "heute", "often": "oft", "here": "hier", "now": "jetzt"}
MODALS = {"can": ("kann", "können"), "must": ("muss", "müssen"), "will": ("wird", "werden")}
