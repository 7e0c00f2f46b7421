"""A classifier as files for runtimes other than TensorFlow, one file a kind, and whether they compute the same."""
