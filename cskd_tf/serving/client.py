"""Asks a TensorFlow Serving, by REST or by gRPC, what an exported classifier says of images.

    client = RestClient("http://127.0.0.1:8501", "digits")
    client.predict([open("seven.png", "rb").read()])["top_names"]

REST needs nothing but this package; gRPC needs `tensorflow-serving-api` (`pip install '.[serving]'`), and is the
faster of the two for raw images, which JSON writes as numbers.
"""

import abc
import base64
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cskd_tf.errors import UserError, installing
from cskd_tf.serving.functions import IMAGE_BYTES, IMAGES

Given = np.ndarray | Sequence[bytes]
SECONDS = 60.0


class Client(abc.ABC):
    """What both clients can do."""

    def predict(self, images: Given) -> dict[str, np.ndarray]:
        """What the classifier says of images.

        Args:
            images: uint8 `[N, H, W, C]`, or the contents of N files, JPEG or PNG.

        Returns:
            `probabilities`, `confidence`, `top_classes`, `top_probabilities`, `top_names`, and `conformal_set` where
            there are sets, as in docs/serving.md.

        Raises:
            UserError: what is no such images, a server that cannot be reached, or that refuses them; in its words.
        """
        return self._asked("serve", images)

    def embeddings(self, images: Given) -> dict[str, np.ndarray]:
        """`embedding` and `logits` of images; arguments and errors as of `predict`."""
        return self._asked("embeddings", images)

    def _asked(self, signature: str, images: Given) -> dict[str, np.ndarray]:
        name, signature, values = _input(images, signature=signature)
        return _as_arrays(self._ask(signature, name, values))

    @abc.abstractmethod
    def _ask(self, signature: str, name: str, values: np.ndarray | list[bytes]) -> dict[str, np.ndarray]:
        """The outputs of a signature, as the server tells them, for the value of its input."""


class RestClient(Client):
    """A client of the server's REST interface.

    Args:
        address: such as `http://127.0.0.1:8501`.
        name: of the model, as the server calls it.
        version: of the model; None: the latest.
        seconds: to wait for an answer.
    """

    def __init__(self, address: str, name: str, *, version: int | None = None, seconds: float = SECONDS):
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            raise UserError(f"Expected an address as http://127.0.0.1:8501. Received: {address!r}")
        of_version = "" if version is None else f"/versions/{version}"
        self._url = f"{address.rstrip('/')}/v1/models/{urllib.parse.quote(name, safe='')}{of_version}:predict"
        self._seconds = seconds

    def _ask(self, signature: str, name: str, values: np.ndarray | list[bytes]) -> dict[str, np.ndarray]:
        if isinstance(values, np.ndarray):
            written: Any = values.tolist()
        else:
            written = [{"b64": base64.b64encode(content).decode()} for content in values]
        body = json.dumps({"signature_name": signature, "inputs": {name: written}}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self._seconds) as answer:
                outputs = json.loads(answer.read())["outputs"]
            return {key: np.asarray(value) for key, value in outputs.items()}
        except urllib.error.HTTPError as error:
            raise _refused(self._url, _message(error.read()) or f"{error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"Expected a TensorFlow Serving at {self._url}. Received: {getattr(error, 'reason', error)}"
            ) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"Expected an answer as of TensorFlow Serving. Received: another of {self._url}") from error


class GrpcClient(Client):
    """A client of the server's gRPC interface, without encryption.

    Args:
        address: such as `127.0.0.1:8500`.
        name: as of `RestClient`, and so are the others.
        version: of the model.
        seconds: to wait.

    Raises:
        UserError: `tensorflow-serving-api` is not installed.
    """

    def __init__(self, address: str, name: str, *, version: int | None = None, seconds: float = SECONDS):
        try:
            import grpc
            from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
        except ImportError as error:
            raise UserError(f"Expected tensorflow-serving-api: {installing('serving')}. Received: {error}") from error
        self._address, self._seconds = address, seconds
        # As large as messages get: a batch of photos is more than the 4 MB that gRPC takes by default.
        limits = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        self._channel = grpc.insecure_channel(address, options=limits)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._error = grpc.RpcError
        self._request = predict_pb2.PredictRequest()
        self._request.model_spec.name = name
        if version is not None:
            self._request.model_spec.version.value = version

    def close(self) -> None:
        """Ends the connection; at the latest it ends with this object."""
        self._channel.close()

    def _ask(self, signature: str, name: str, values: np.ndarray | list[bytes]) -> dict[str, np.ndarray]:
        request = type(self._request)()
        request.CopyFrom(self._request)
        request.model_spec.signature_name = signature
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        try:
            answer = self._stub.Predict(request, timeout=self._seconds)
        except self._error as error:
            code, why = error.code().name, error.details()
            if code == "UNAVAILABLE":
                raise UserError(f"Expected a TensorFlow Serving at {self._address}. Received: {why}") from error
            raise _refused(self._address, f"{code}: {why}") from error
        return {key: tf.make_ndarray(value) for key, value in answer.outputs.items()}


def _input(images: Given, *, signature: str) -> tuple[str, str, np.ndarray | list[bytes]]:
    """The name of the input, that of the signature which takes it, and the input.

    Example:
        >>> _input([b"GIF89a"], signature="serve")
        ('image_bytes', 'serve_bytes', [b'GIF89a'])
    """
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4 and len(images):
        return IMAGES, signature, images
    if isinstance(images, (list, tuple)) and images and all(isinstance(content, bytes) for content in images):
        return IMAGE_BYTES, f"{signature}_bytes", list(images)
    received = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
    raise UserError(
        f"Expected images, uint8 [N, H, W, C], or a list of the contents of files; at least one. Received: {received}"
    )


def _as_arrays(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs as the SavedModel has them: float32, int32, bool; and names as text."""
    kinds = {"f": np.float32, "i": np.int32, "b": np.bool_, "U": np.str_}
    arrays = {key: _decoded(value) if value.dtype == object else value for key, value in outputs.items()}
    return {key: value.astype(kinds[value.dtype.kind]) for key, value in arrays.items()}


def _decoded(names: np.ndarray) -> np.ndarray:
    return np.char.decode(names.astype("S"), "utf-8", "backslashreplace")


def _message(body: bytes) -> str:
    """What the server says of an error; empty where it is no answer of TensorFlow Serving."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        return ""


def _refused(where: str, why: str) -> UserError:
    return UserError(f"Expected images, and a model, that the server at {where} takes. Received: {why}")
