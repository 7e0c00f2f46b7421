"""Networks, what is asked of them, and weights from PyTorch."""
