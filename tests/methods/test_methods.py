"""Methods by the entries of a config."""

import pytest

from cskd_tf import methods
from cskd_tf.methods import CSKD


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
        ({"name": "Distillation", "teacher": None}, "a Keras model or its .keras file. Received: None"),
        ({"name": "TFKD", "teacher": 3}, "a Keras model or its .keras file. Received: 3"),
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


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        # Of the code of their authors, as their docstrings say; no table of the papers lists them.
        ("DLB", {"temperature": 3.0, "weight": 0.5}),
        ("USKD", {"target_weight": 1.0, "others_weight": 0.1, "weak_weight": 0.005}),
        ("BYOT", {"alpha": 0.3, "temperature": 3.0, "feature_weight": 0.03}),
    ],
)
def test_the_usual_values_are_those_of_the_authors(name, usual):
    (method,) = methods.build([{"name": name}])
    assert {key: getattr(method, key) for key in usual} == usual
