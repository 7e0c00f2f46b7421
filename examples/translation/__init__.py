"""PS-KD for translation, in kind what its paper's Table 6 measures: a small Transformer on synthetic sentence pairs."""
