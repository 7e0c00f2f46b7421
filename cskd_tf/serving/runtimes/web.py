"""A web page that classifies images in the browser by onnxruntime-web; no image leaves the machine."""

import html
import importlib.resources
import json
import pathlib

from cskd_tf.serving.runtimes.base import Material
from cskd_tf.serving.runtimes.onnx import Onnx

CLASSES = "classes.json"
NPM_PACKAGE, NPM_VERSION = "onnxruntime-web", "1.30.0"  # that the page is tested with
NPM_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")

_README = f"""\
# A page that classifies images

`index.html` runs `model.onnx` in the browser. Two files of the npm package `{NPM_PACKAGE}` {NPM_VERSION} belong beside
it, from the package's folder `dist`: `{NPM_FILES[0]}` and `{NPM_FILES[1]}`.

```text
npm pack {NPM_PACKAGE}@{NPM_VERSION}
tar -xzf {NPM_PACKAGE}-{NPM_VERSION}.tgz --strip-components=2 package/dist/{NPM_FILES[0]} \\
    package/dist/{NPM_FILES[1]}
python -m http.server
```

Browsers load neither modules nor models from `file:` addresses, so the folder has to be served: by the last line, or by
any other server of files. Nothing is fetched from elsewhere, and no image leaves the browser.

The page hands over the pixels as the browser decodes them, and the graph crops and resizes them as everywhere else.
As elsewhere, photos are not turned as their EXIF orientation says. JPEG decoders differ by a little, and images with
transparency are refused, of which a page cannot see the colours as they are stored.
"""


class Web(Onnx):
    """The page, the ONNX file that it runs, the names of the classes, and how to serve them.

    It is judged by onnxruntime in Python, as no browser need be here; a test opens it in one.
    """

    extra = "web"

    def write(self, folder: pathlib.Path, material: Material) -> None:
        super().write(folder, material)
        serving = material.numbers.serving
        names = [name.encode(errors="surrogateescape").decode(errors="replace") for name in serving.class_names]
        (folder / CLASSES).write_text(json.dumps(names))
        page = importlib.resources.files(__package__).joinpath("page.html").read_text()
        settings = {"channels": serving.channels, "library": NPM_FILES[0], "binary": NPM_FILES[1]}
        page = page.replace("SETTINGS", json.dumps(settings)).replace("SIZE", html.escape(str(serving.size)))
        (folder / "index.html").write_text(page)
        (folder / "README.md").write_text(_README)
