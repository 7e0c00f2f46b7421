"""How large wheel and source distribution are: `python -m benchmarks.sizes` builds both for results/sizes.json."""

import pathlib
import subprocess
import sys
import tempfile

from absl import app

from benchmarks.results import ROOT, record

KINDS = {"wheel": "*.whl", "source distribution": "*.tar.gz"}


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as folder:
        # As `make dist` does, but into a folder that is nobody's.
        subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], check=True)
        for kind, pattern in KINDS.items():
            (path,) = pathlib.Path(folder).glob(pattern)
            record("sizes", {"benchmark": "sizes", "file": kind, "bytes": path.stat().st_size})


if __name__ == "__main__":
    app.run(main)
