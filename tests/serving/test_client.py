"""The clients against servers of this machine: `servers.py` says what that shows, and what it does not."""

import socket
import sys
import time

import numpy as np
import pytest

from cskd_tf.errors import UserError
from cskd_tf.serving.client import GrpcClient, RestClient
from tests import pages
from tests.serving.servers import grpc_server, rest_server

KINDS = {"rest": (RestClient, rest_server), "grpc": (GrpcClient, grpc_server)}
MODEL = {"name": "zoo", "version": 3}
DTYPES = {
    "probabilities": np.float32, "confidence": np.float32, "top_classes": np.int32, "top_probabilities": np.float32,
    "conformal_set": np.bool_, "embedding": np.float32, "logits": np.float32,
}  # fmt: skip


@pytest.fixture(params=KINDS)
def asked(request, loaded):
    """A kind of client, and the address of a server for it."""
    make, serve = KINDS[request.param]
    if request.param == "grpc":
        pytest.importorskip("tensorflow_serving")
    with serve(loaded, **MODEL) as address:
        yield make, address


def check(answer, expected):
    """An answer is what the SavedModel returns, and of the types that it has."""
    assert set(answer) == set(expected)
    for name, value in answer.items():
        if name == "top_names":
            assert value.tolist() == [[each.decode() for each in row] for row in expected[name].numpy()]
        else:
            assert value.dtype == DTYPES[name]
            np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-7)


def test_images_and_files_are_predicted_as_by_the_saved_model(asked, loaded, images, files):
    make, address = asked
    client = make(address, "zoo")
    check(client.predict(images), loaded.serve(images))
    check(client.predict(files), loaded.serve_bytes(files))
    check(client.embeddings(images[:2]), loaded.embeddings(images[:2]))
    check(make(address, "zoo", version=3).embeddings(tuple(files)), loaded.embeddings_bytes(files))


def test_the_function_of_the_page_names_what_is_on_files(loaded, files, tmp_path):
    (block,) = [block for block in pages.blocks("docs/serving.md", "python") if "names_of" in block.text]
    names = {}
    exec(compile(block.text, block.page, "exec"), names)
    paths = [tmp_path / str(number) for number in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    with rest_server(loaded, name="digits", version=1) as address:
        # The page's address is that of a server which need not be there.
        names["RestClient"] = lambda stated, name: RestClient({"http://127.0.0.1:8501": address}[stated], name)
        found = names["names_of"](*paths)
    assert found.tolist() == [name.decode() for name in loaded.serve_bytes(files)["top_names"].numpy()[:, 0]]


def test_a_large_batch_is_one_message_of_grpc(loaded):
    pytest.importorskip("tensorflow_serving")
    images = np.random.default_rng(0).integers(0, 256, (30, 256, 256, 3), np.uint8)  # 6 MB, of which gRPC takes 4
    with grpc_server(loaded, **MODEL) as address:
        check(GrpcClient(address, "zoo").predict(images), loaded.serve(images))


def test_what_the_server_refuses_is_said_in_its_words(asked, images):
    make, address = asked
    client = make(address, "zoo")
    for given, why in ((images[..., :1], r"Expected images \[N, H, W, 3\]"), ([b"GIF89a"], "Expected JPEG or PNG")):
        with pytest.raises(UserError, match=rf"(?s)Expected images, and a model, that the server at .*takes. .*{why}"):
            client.predict(given)
    for name, version in (("aquarium", None), ("zoo", 4)):
        with pytest.raises(UserError, match="Servable not found for request"):
            make(address, name, version=version).predict(images)


@pytest.mark.parametrize(
    ("given", "received"),
    [
        (np.zeros((1, 8, 8, 3), np.float32), r"float32 \(1, 8, 8, 3\)"),
        (np.zeros((8, 8, 3), np.uint8), r"uint8 \(8, 8, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"uint8 \(0, 8, 8, 3\)"),
        (["seven.png"], "list"),
        ([], "list"),
        (b"GIF89a", "bytes"),
    ],
)
def test_what_are_no_images_is_not_sent(given, received):
    with pytest.raises(UserError, match=rf"Expected images, uint8 \[N, H, W, C\], or a list .*Received: {received}"):
        RestClient("http://127.0.0.1:9", "zoo").predict(given)


def test_a_server_that_is_not_there_is_named(images):
    with pytest.raises(
        UserError, match=r"Expected a TensorFlow Serving at http://127.0.0.1:9/v1/models/zoo:predict\. "
    ):
        RestClient("http://127.0.0.1:9", "zoo", seconds=5).predict(images)
    with pytest.raises(UserError, match="Expected an address as http://127.0.0.1:8501. Received: 'file:///etc'"):
        RestClient("file:///etc", "zoo")


def test_a_grpc_server_that_is_not_there_is_named(images):
    pytest.importorskip("tensorflow_serving")
    with pytest.raises(UserError, match="Expected a TensorFlow Serving at 127.0.0.1:9. Received: failed to connect"):
        GrpcClient("127.0.0.1:9", "zoo", seconds=5).predict(images)


def test_without_the_api_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(UserError, match=r"Expected tensorflow-serving-api: pip install '.\[serving\]'"):
        GrpcClient("127.0.0.1:8500", "zoo")


def test_a_server_that_does_not_answer_is_waited_for_as_long_as_told():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = RestClient(f"http://127.0.0.1:{silent.getsockname()[1]}", "zoo", seconds=0.2)
        begun = time.monotonic()
        with pytest.raises(UserError, match="timed out"):
            client.predict([b"GIF89a"])
        assert time.monotonic() - begun < 30  # and not the minute of the default


def test_names_are_quoted():
    with pytest.raises(UserError, match=r"http://127.0.0.1:9/v1/models/a%2Fb%20c:predict\."):
        RestClient("http://127.0.0.1:9", "a/b c", seconds=5).predict([b""])
