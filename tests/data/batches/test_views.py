"""Views by name: which there are, which partner they show, and the randomness that tells them apart."""

import pytest

from cskd_tf.data import Distribution, Needs
from cskd_tf.data.batches import views


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("partner", 1),
        ("partner_2", 2),
        ("partner_9", 9),
        ("partner_10", 10),
        ("partner_137", 137),
        ("partner_0", 0),
        ("partner_1", 0),
        ("partner_02", 0),
        ("partner_", 0),
        ("partner_2_3", 0),
        ("partners", 0),
        ("image", 0),
        ("clean", 0),
        ("second_view", 0),
    ],
)
def test_the_number_of_a_partner_is_in_its_name(name, number):
    assert views.partner_number(name) == number


@pytest.mark.parametrize(("count", "names"), [(0, ("partner",)), (1, ("partner",)), (2, ("partner", "partner_2"))])
def test_partners_are_numbered_from_the_second_on(count, names):
    assert views.partner_views(count) == names


def test_every_partner_has_its_number():
    assert [views.partner_number(name) for name in views.partner_views(12)] == list(range(1, 13))


@pytest.mark.parametrize("name", ["image", "partner", "partner_3", "second_view", "clean"])
def test_views_are_accepted(name):
    assert views.is_view(name)
    assert views.check_view(name) == name


@pytest.mark.parametrize("name", ["index", "targets", "partner_1", "Image", ""])
def test_what_is_no_view_is_refused(name):
    assert not views.is_view(name)
    with pytest.raises(ValueError, match=f"Unknown view; expected one of .*Received: name='{name}'"):
        views.check_view(name)


def test_streams_of_randomness_are_fixed_and_differ():
    # Other numbers would change every run.
    streams = {name: views.stream(name) for name in (*views.NAMES, "partner_2", "partner_3", "partner_10")}
    assert streams == {
        "image": 10,
        "partner": 11,
        "second_view": 12,
        "clean": 13,
        "previous": 14,
        "partner_2": 20,
        "partner_3": 21,
        "partner_10": 28,
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Needs(views=("neighbour",)), "Unknown views.*'neighbour'"),
        (lambda: Needs(views=("partner_1",)), "Unknown views.*'partner_1'"),
        (lambda: Needs(views=("image",)), "Unknown views.*'image'"),
        (lambda: Needs(extras=("name",)), "Unknown extras.*'name'"),
        (lambda: Distribution(worker=2, num_workers=2), "worker from 0 to 1. Received: worker=2"),
    ],
)
def test_bad_needs_and_distributions_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
