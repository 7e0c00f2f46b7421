"""Uses of the package beyond image classification, as commands: `python -m examples.translation`."""
