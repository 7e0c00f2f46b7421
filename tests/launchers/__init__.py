"""Launchers: what starts the workers of a run on a cluster, and the clusters that are made for it."""
