"""Tests, in the rooms of the package: where a test goes.

What is of one module goes to `test_<module>.py` in the folder that mirrors the module's, as that of
`cskd_tf/data/batches/stream.py` to `tests/data/batches/test_stream.py`. A behaviour that several modules share has a
file named after the behaviour, in the room that a reader would open first: `tests/data/test_odd_files.py` asks that the
doctor and training agree on files. What is of the whole project, such as the README, the configs and the papers'
recipes, stands on top, beside what all tests share: fixtures in `conftest.py`, and what tests import in `helpers.py`.
What the files of one room share stands once in that room.
"""
