import pytest

from cskd_tf.data import paired_dataset
from cskd_tf.runs.tensorboard.profile import Profile
from tests.helpers import trainable_model


@pytest.mark.thorough
@pytest.mark.parametrize(("epochs", "profiled"), [(3, True), (1, False)])
def test_some_steps_are_profiled_once_the_first_are_over(epochs, profiled, linear_network, images_and_labels, tmp_path):
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, epochs=epochs)  # of 3 steps
    model = trainable_model(linear_network())
    model.fit(data, epochs=epochs, verbose=0, callbacks=[Profile(tmp_path, steps=2)])
    files = list(tmp_path.rglob("plugins/profile/*/*.xplane.pb"))
    assert len(files) == profiled
    assert all(b"step_num" in file.read_bytes() for file in files)  # by which the plugin tells steps apart
