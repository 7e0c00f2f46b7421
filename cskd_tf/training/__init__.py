"""The model that trains a network by methods, and what `fit` needs around it."""
