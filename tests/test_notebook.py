"""docs/digits.ipynb: kept without outputs, and run from top to bottom."""

import json

import pytest

from tests.helpers import ROOT

NOTEBOOK = ROOT / "docs" / "digits.ipynb"


def test_the_notebook_is_kept_without_outputs():
    notebook = json.loads(NOTEBOOK.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}  # nothing of a machine


@pytest.mark.newcomer
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    assert "'train': 300" in outputs["data"][-1]["data"]["text/plain"]
    printed = "".join(output["text"] for output in outputs["metrics"] if output["output_type"] == "stream")
    errors = [float(line.split("top-1 error ")[1].split("%")[0]) for line in printed.splitlines() if "top-1" in line]
    assert len(errors) == 2
    assert max(errors) < 30  # per cent, of 90 by chance
    assert any("image/png" in output.get("data", {}) for output in outputs["reliability"])
