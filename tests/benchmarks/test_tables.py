import json

import pytest

from benchmarks import markdown, tables


def test_tables_are_written_between_their_marks(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(markdown, "RESULTS", tmp_path)
    where = {"commit": "abc1234", "onednn": "on", "network": "resnet18", "batch": 32}
    lines = [
        {"precision": precision, "times_as_fast_as_torch": ratio, "cpu": cpu, **where}
        for cpu, *ratios in (("A CPU", 1.234, 12.0), ("B CPU", 0.5, 0.25))
        for precision, ratio in zip(("float32", "bfloat16"), ratios, strict=True)
    ]
    (tmp_path / "network_speed.json").write_text(json.dumps(lines))
    page = "# Speed\n\n<!-- network_speed -->\nold\n<!-- end -->\n\nafter\n"
    (tmp_path / "README.md").write_text("no table")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "speed.md").write_text(page)
    expected = page.replace(
        "old",
        """| times as fast as PyTorch | batch | float32 | bfloat16 |
| ------------------------ | ----: | ------: | -------: |
| `resnet18`               |    32 |    1.23 |    12.00 |

`results/network_speed.json`: commit abc1234, A CPU, oneDNN on.

| times as fast as PyTorch | batch | float32 | bfloat16 |
| ------------------------ | ----: | ------: | -------: |
| `resnet18`               |    32 |    0.50 |     0.25 |

`results/network_speed.json`: commit abc1234, B CPU, oneDNN on.""",
    )
    for _ in range(2):  # and what is there already stays
        tables.main([])
        assert (tmp_path / "docs" / "speed.md").read_text() == expected
        assert (tmp_path / "README.md").read_text() == "no table"


def test_a_mark_of_no_table_is_an_error():
    with pytest.raises(KeyError, match="nothing"):
        tables.refreshed("<!-- nothing -->\n<!-- end -->\n")
