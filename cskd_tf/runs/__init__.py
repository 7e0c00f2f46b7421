"""Runs of a config in a folder: one verb a file, called through `train_main.py`."""
