"""Methods: their losses, and what they need."""
