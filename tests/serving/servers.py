"""Servers of a SavedModel on this machine that speak as TensorFlow Serving does, for tests of the clients.

The messages are real: gRPC's are those of `tensorflow-serving-api`, whose own servicer receives them, and REST's follow
https://www.tensorflow.org/tfx/serving/api_rest. What answers is not TensorFlow Serving, which no package index has: so
they show that the clients write and read these messages, and that the signatures can be called by them, and nothing of
its batching, versions or limits.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import re
import threading

import numpy as np
import tensorflow as tf

ADDRESS = "127.0.0.1"


class RefusedError(Exception):
    """What a server says it cannot do; `missing`: because there is no such thing."""

    def __init__(self, message, *, missing=False):
        super().__init__(message)
        self.missing = missing


def call(model, signature, inputs):
    """Calls a signature with tensors by name."""
    if signature not in model.signatures:
        raise RefusedError(f'Serving signature name: "{signature}" not found in signature def', missing=True)
    function = model.signatures[signature]
    if set(inputs) != set(function.structured_input_signature[1]):
        raise RefusedError(f"inputs are {sorted(inputs)}")
    try:
        return function(**inputs)
    except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
        raise RefusedError(str(error)) from error


@contextlib.contextmanager
def grpc_server(model, *, name, version):
    """Serves a SavedModel by gRPC; yields its address."""
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802
            spec = request.model_spec
            asked = spec.version.value if spec.HasField("version") else version
            if (spec.name, asked) != (name, version):
                context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {spec.name}")
            inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
            try:
                outputs = call(model, spec.signature_name or "serving_default", inputs)
            except RefusedError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            answer = predict_pb2.PredictResponse()
            for key, value in outputs.items():
                answer.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy(), dtype=value.dtype))
            return answer

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port(f"{ADDRESS}:0")
    server.start()
    try:
        yield f"{ADDRESS}:{port}"
    finally:
        server.stop(None).wait()


def tensor_of(value, spec):
    """A tensor of JSON: binary strings are objects with `b64`."""
    if spec.dtype == tf.string:
        return tf.constant([base64.b64decode(each["b64"]) if isinstance(each, dict) else each for each in value])
    return tf.constant(np.asarray(value), spec.dtype)


@contextlib.contextmanager
def rest_server(model, *, name, version):
    """Serves a SavedModel by REST; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            try:
                status, answer = 200, self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            except RefusedError as error:
                status, answer = 404 if error.missing else 400, {"error": str(error)}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def answer(self, request):
            if not re.fullmatch(rf"/v1/models/{name}(/versions/{version})?:predict", self.path):
                raise RefusedError(f"Servable not found for request: {self.path}", missing=True)
            signature = request.get("signature_name", "serving_default")
            specs = model.signatures[signature].structured_input_signature[1] if signature in model.signatures else {}
            inputs = {key: tensor_of(value, specs[key]) for key, value in request["inputs"].items() if key in specs}
            outputs = call(model, signature, inputs)
            texts = np.vectorize(bytes.decode, otypes=[object])
            arrays = {key: value.numpy() for key, value in outputs.items()}
            return {
                "outputs": {
                    key: (texts(value) if value.dtype == object else value).tolist() for key, value in arrays.items()
                }
            }

        def log_message(self, *_):
            """Says nothing of each request."""

    server = http.server.ThreadingHTTPServer((ADDRESS, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://{ADDRESS}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
