import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import methods
from cskd_tf.data import Needs, paired_dataset
from cskd_tf.methods import CSKD, METHODS, Method, View
from tests.helpers import compiled, staged_network


class OtherHead(Method):
    def scores(self, outputs, *, labels=None, training=False):
        return outputs["logits"]


class InferencePartner(Method):
    views = (View("partner", gradient=True, batch_norm="inference"),)


class GradientPartner(Method):
    views = (View("second_view"), View("partner", gradient=True))
    extras = ("index",)


def softmax(logits):
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def test_several_partners_enter_as_their_mean():
    logits = {"image": [0.0, 0.0], "partner": [4 * np.log(3.0), 0.0], "partner_2": [0.0, 0.0]}
    outputs = {view: {"logits": tf.constant([values])} for view, values in logits.items()}
    method = CSKD(temperature=4.0, weight=1.0, partners=2)
    assert [view.name for view in method.views] == ["partner", "partner_2"]
    np.testing.assert_allclose(method.terms({}, outputs, None)["class_wise"], [2.092993 / 2], atol=1e-6)
    for partners in (0, 1.0, True):
        with pytest.raises(ValueError, match="partners to be an integer of at least 1"):
            CSKD(partners=partners)


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (4.0, 3.0)])
def test_cskd_value_and_gradient_against_numpy(temperature, weight):
    generator = np.random.default_rng(1)
    own, partner = generator.normal(size=(2, 5, 7)) * 3
    own_variable, partner_variable = (tf.Variable(value, dtype=tf.float32) for value in (own, partner))
    with tf.GradientTape() as tape:
        outputs = {"image": {"logits": own_variable.value()}, "partner": {"logits": partner_variable.value()}}
        term = CSKD(temperature=temperature, weight=weight).terms({}, outputs, None)["class_wise"]
    own_gradient, partner_gradient = tape.gradient(term, [own_variable, partner_variable])
    p, q = softmax(partner / temperature), softmax(own / temperature)
    np.testing.assert_allclose(term, weight * temperature**2 * (p * np.log(p / q)).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(own_gradient, weight * temperature * (q - p), atol=1e-5)
    assert partner_gradient is None


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "4", True])
def test_cskd_refuses_a_temperature(temperature):
    with pytest.raises(ValueError, match=r"temperature to be a finite number above 0. Received: temperature="):
        CSKD(temperature=temperature)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), None])
def test_cskd_refuses_a_weight(weight):
    with pytest.raises(ValueError, match=r"weight to be a finite number of at least 0. Received: weight="):
        CSKD(weight=weight)


def test_build_makes_the_methods_of_a_config():
    (method,) = methods.build([{"name": "CSKD", "temperature": 1, "weight": 3.0}])
    assert isinstance(method, CSKD)
    assert (method.temperature, method.weight) == (1.0, 3.0)
    assert methods.build([]) == []


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "CSDK"}, r"Unknown method; expected one of \['AdaCos', .*Received: name='CSDK'"),
        ({"temperature": 4.0}, "Received: name=None"),
        (
            {"name": "CSKD", "wieght": 1.0},
            r"expected some of \['temperature', 'weight', .*Received: \['wieght'\]",
        ),
        ({"name": "Distillation"}, r"Expected Distillation with \['teacher'\]"),
        ({"name": "Distillation", "teacher": None}, "its .keras file or a workdir. Received: None"),
        ({"name": "TFKD", "teacher": 3}, "its .keras file or a workdir. Received: 3"),
        ({"name": "TFKD", "correct": 0}, r"correct in \(0, 1\). Received: correct=0"),
    ],
)
def test_build_refuses_what_it_does_not_know(description, message):
    with pytest.raises(ValueError, match=message):
        methods.build([description])


@pytest.mark.parametrize("descriptions", [None, "CSKD", {"name": "CSKD"}, ["CSKD"]])
def test_build_shows_what_a_list_looks_like(descriptions):
    with pytest.raises(ValueError, match=r"Expected a list .* as \[{\"name\": \"CSKD\".*Received: methods="):
        methods.build(descriptions)


def test_inference_needs_the_head_alone():
    chosen = [{"name": "AdaCos"}, {"name": "Distillation", "teacher": "gone.keras"}]
    assert methods.for_inference(chosen) == chosen[:1]


def test_views_are_merged_and_gradients_win():
    views = methods.merge_views([CSKD(), GradientPartner()])
    assert [view.name for view in views] == ["image", "partner", "second_view"]
    assert [view.gradient for view in views] == [True, True, False]
    needs = Needs(views=("partner", "second_view"), extras=("index",), pairs_adjacent=False, mixing=())
    assert methods.data_options([CSKD(), GradientPartner()]) == {"needs": needs}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([CSKD, CSKD], r"each method at most once. Received: \['CSKD', 'CSKD'\]"),
        ([OtherHead, type("AnotherHead", (OtherHead,), {})], "at most one method that replaces the classifier head"),
        ([CSKD, type("SameTerm", (Method,), {"term_names": ("class_wise",)})], "distinct names of loss terms"),
    ],
)
def test_lists_that_cannot_work_are_refused(chosen, message):
    with pytest.raises(ValueError, match=message):
        methods.check_composition([kind() for kind in chosen])


def test_two_batch_norm_modes_of_one_view_are_refused():
    with pytest.raises(ValueError, match="CSKD and InferencePartner.*'train' and 'inference'"):
        methods.merge_views([CSKD(), InferencePartner()])


def test_something_else_than_a_method_is_refused():
    with pytest.raises(ValueError, match="list of cskd_tf.methods. Received: 'CSKD'"):
        methods.check_composition(["CSKD"])


@pytest.mark.parametrize("arguments", [{"name": "neighbour"}, {"name": "partner", "batch_norm": "frozen"}])
def test_unknown_views_are_refused(arguments):
    with pytest.raises(ValueError, match="one of"):
        View(**arguments)


# Pairs that cannot work, and why; all others train.
REFUSED = {
    ("AdaCos", "VirtualSoftmax"): "at most one method that replaces the classifier head",
    **dict.fromkeys(itertools.product(("AdaCos", "VirtualSoftmax"), ("Mixup", "CutMix")), "images of one label beside"),
    **dict.fromkeys(itertools.product(("PSKD",), ("Mixup", "CutMix", "Cutout")), "images that PS-KD can refine"),
}


def pairs():
    """All of them; those beside CS-KD, and those refused, in every test run."""
    for pair in itertools.combinations(sorted(METHODS), 2):
        quick = "CSKD" in pair or any(set(names) == set(pair) for names in REFUSED)
        yield pytest.param(pair, id="+".join(pair), marks=[] if quick else [pytest.mark.papers])


@pytest.mark.parametrize("pair", list(pairs()))
def test_every_pair_of_methods_trains_or_is_refused_with_the_reason(pair, images_and_labels):
    images, labels = images_and_labels
    refused = [message for names, message in REFUSED.items() if set(names) == set(pair)]
    names = pair if len("".join(pair)) % 2 else pair[::-1]  # half of them from the end of the alphabet
    chosen = []
    for name in names:
        teacher = staged_network((4, 4, 1), classes=3) if name == "Distillation" else None
        chosen.append(METHODS[name](teacher=teacher) if teacher else METHODS[name]())
    if refused:
        for order in (chosen, chosen[::-1]):
            with pytest.raises(ValueError, match=refused[0]):
                methods.check_composition(order)
        return
    methods.check_composition(chosen[::-1])
    keras.utils.set_random_seed(0)
    model = compiled(staged_network((4, 4, 1), classes=3), chosen, learning_rate=0.01, num_examples=22)
    data = paired_dataset(images, labels, batch_size=22, seed=0, epochs=1, **model.data_options)
    logs = model.train_step(next(iter(data)))
    terms = {name: float(value) for name, value in logs.items() if name != "loss"}
    assert set(terms) == set(methods.base.term_names(chosen))
    assert float(logs["loss"]) == pytest.approx(sum(terms.values()), rel=1e-5, abs=1e-5)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (lambda: [methods.Mixup()], r"\['Mixup'\] work in the pipeline: build the data with.*data_options"),
        (lambda: [methods.LabelSmoothing(), methods.Cutout(), CSKD()], r"\['Cutout'\] work in the pipeline"),
    ],
)
def test_images_that_nobody_mixed_are_refused(chosen, message, linear_network, images_and_labels):
    model = compiled(linear_network(), chosen())
    with pytest.raises(ValueError, match=message):
        model.fit(paired_dataset(*images_and_labels, batch_size=8, seed=0, epochs=1), verbose=0)


@pytest.mark.parametrize("batch_size", [22, 11])
def test_neighbours_that_are_no_pairs_are_refused(batch_size, linear_network, images_and_labels):
    model = compiled(linear_network(), [CSKD(in_batch=True)])
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="Expected batches of pairs of one class"):
        model.fit(*images_and_labels, batch_size=batch_size, verbose=0)


def test_a_method_that_keeps_something_belongs_to_one_network(linear_network):
    method = methods.AdaCos()
    network = linear_network()
    compiled(network, [method])
    compiled(network, [method])
    with pytest.raises(ValueError, match="methods that no other network has: AdaCos keeps something"):
        compiled(linear_network(), [method])
    shared = CSKD()
    compiled(linear_network(), [shared])
    compiled(linear_network(), [shared])


@pytest.mark.parametrize("kind", [methods.BYOT, methods.DDGSD])
def test_a_network_without_an_embedding_is_refused(kind):
    inputs = keras.Input((4, 4, 1))
    outputs = inputs
    for stage in (1, 2):
        outputs = keras.layers.Identity(name=f"stage{stage}")(keras.layers.Conv2D(3, 1)(outputs))
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(outputs))
    with pytest.raises(ValueError, match=f"whose embedding is found, for {kind.__name__}"):
        compiled(network, [kind()])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: CSKD(in_batch="false"), "in_batch"),
        (lambda: methods.BYOT(squared="no"), "squared"),
        (lambda: methods.LabelSmoothing(over_others=1), "over_others"),
        (lambda: methods.AdaCos(scale_at_evaluation=None), "scale_at_evaluation"),
    ],
)
def test_what_is_neither_true_nor_false_is_refused(make, name):
    with pytest.raises(ValueError, match=f"{name} to be True or False. Received: {name}="):
        make()
