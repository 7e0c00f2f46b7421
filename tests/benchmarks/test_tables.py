import json

import pytest

from benchmarks import tables


def test_tables_are_written_between_their_marks(monkeypatch, tmp_path):
    readme = tmp_path / "README.md"
    monkeypatch.setattr(tables, "README", readme)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    lines = [
        {"network": "resnet18", "batch": 32, "precision": precision, "times_as_fast_as_torch": ratio,
         "commit": "abc1234", "cpu": "A CPU", "onednn": "on"}
        for precision, ratio in (("float32", 1.234), ("bfloat16", 2.0))
    ]  # fmt: skip
    (tmp_path / "network_speed.json").write_text(json.dumps(lines))
    readme.write_text("Before\n\n<!-- network_speed -->\nold\n<!-- end -->\n\nafter\n")
    tables.main([])
    expected = """Before

<!-- network_speed -->
| times as fast as PyTorch | batch | float32 | bfloat16 |
| --- | --- | --- | --- |
| `resnet18` | 32 | 1.23 | 2.00 |

`results/network_speed.json`: commit abc1234, A CPU, oneDNN on.
<!-- end -->

after
"""
    assert readme.read_text() == expected
    tables.main([])
    assert readme.read_text() == expected


def test_a_mark_of_no_table_is_an_error():
    with pytest.raises(KeyError, match="nothing"):
        tables.refreshed("<!-- nothing -->\n<!-- end -->\n")
