"""A detector on a backbone of this package, in kind what the PS-KD paper's Table 5 measures."""
