"""From bytes to pixels, and what is done to pixels."""
