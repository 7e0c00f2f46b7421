"""Runs: what a config becomes, and the command line."""
