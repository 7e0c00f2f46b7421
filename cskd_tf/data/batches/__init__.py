"""Which images come together, and the batches that they make."""
