"""What TensorBoard shows of a run: each file here writes a part of it."""
