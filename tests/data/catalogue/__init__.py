"""Data sets by name, and how their archives are prepared."""
