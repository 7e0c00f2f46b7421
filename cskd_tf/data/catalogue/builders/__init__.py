"""Data sets that TFDS lacks, in TFDS' own form: they read the original archives, unchanged."""
