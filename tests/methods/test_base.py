"""What methods need, of the data and of each other, and lists of them that cannot work."""

import keras
import pytest

from cskd_tf import methods
from cskd_tf.data import Needs, paired_dataset
from cskd_tf.methods import CSKD, Composition, Head, Method, View
from tests.helpers import compiled
from tests.selection import few


class OtherHead(Head):
    pass


class InferencePartner(Method):
    views = (View("partner", gradient=True, batch_norm="inference"),)


class GradientPartner(Method):
    views = (View("second_view"), View("partner", gradient=True))
    extras = ("index",)


def test_views_are_merged_and_gradients_win():
    composition = Composition([CSKD(), GradientPartner()])
    assert [view.name for view in composition.views] == ["image", "partner", "second_view"]
    assert [view.gradient for view in composition.views] == [True, True, False]
    assert composition.needs == Needs(views=("partner", "second_view"), extras=("index",))


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
        Composition([kind() for kind in chosen])


def test_two_batch_norm_modes_of_one_view_are_refused():
    with pytest.raises(ValueError, match="CSKD and InferencePartner.*'train' and 'inference'"):
        Composition([CSKD(), InferencePartner()])


def test_something_else_than_a_method_is_refused():
    with pytest.raises(ValueError, match="list of cskd_tf.methods. Received: 'CSKD'"):
        Composition(["CSKD"])


@pytest.mark.parametrize("arguments", [{"name": "neighbour"}, {"name": "partner", "batch_norm": "frozen"}])
def test_unknown_views_are_refused(arguments):
    with pytest.raises(ValueError, match="one of"):
        View(**arguments)


@pytest.mark.parametrize(
    ("chosen", "message"),
    few(
        [
            (lambda: [methods.Mixup()], r"\['Mixup'\] work in the pipeline: build the data with.*data_options"),
            (lambda: [methods.LabelSmoothing(), methods.Cutout(), CSKD()], r"\['Cutout'\] work in the pipeline"),
        ],
        1,
    ),
)
def test_images_that_nobody_mixed_are_refused(chosen, message, linear_network, images_and_labels):
    model = compiled(linear_network(), chosen())
    with pytest.raises(ValueError, match=message):
        model.fit(paired_dataset(*images_and_labels, batch_size=8, seed=0, epochs=1), verbose=0)


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


@pytest.mark.parametrize("name", ["temperature", "weight"])
def test_an_argument_that_the_traced_step_would_not_read_again_cannot_be_set(name, linear_network, images_and_labels):
    """As a callback would that lets a weight grow: it would change nothing, and not be saved."""
    method = CSKD(weight=2.0)
    model = compiled(linear_network(), [method])
    setattr(method, name, 3.0)  # nothing is trained with it yet
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, **model.data_options)
    model.fit(data, verbose=0)
    with pytest.raises(ValueError, match=rf"arguments of CSKD to stay .*Received: {name}=5\.0"):
        setattr(method, name, 5.0)
    assert getattr(method, name) == 3.0
    method.note = "of something else"


def test_what_is_keras_own_can_be_set_though_it_is_an_argument(linear_network, images_and_labels):
    class Own(Method):
        term_names = ("nothing",)

        def __init__(self, weight=1.0, trainable=True, **kwargs):
            super().__init__(trainable=trainable, **kwargs)
            self.weight = weight

        def terms(self, batch, outputs, targets):
            return {"nothing": 0 * outputs["image"]["logits"][:, 0]}

    model = compiled(linear_network(), [Own()])
    model.fit(*images_and_labels, verbose=0)
    model.trainable = False
    assert not model.trainable_variables
