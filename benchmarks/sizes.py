"""How large wheel and source distribution are: `python -m benchmarks.sizes` runs `make dist`, results/sizes.json."""

import subprocess

from absl import app

from benchmarks.results import ROOT, record

KINDS = {"wheel": "*.whl", "source distribution": "*.tar.gz"}


def main(argv):
    del argv
    subprocess.run(["make", "dist"], cwd=ROOT, check=True)
    for kind, pattern in KINDS.items():
        (path,) = (ROOT / "dist").glob(pattern)
        record("sizes", {"benchmark": "sizes", "file": kind, "bytes": path.stat().st_size})


if __name__ == "__main__":
    app.run(main)
