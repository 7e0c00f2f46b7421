"""Metrics and neighbours."""
