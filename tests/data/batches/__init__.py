"""Which images go into which batch, beside which partner."""
