"""Figures, drawn from saved predictions, logs and small images alone."""
