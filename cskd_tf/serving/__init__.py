"""From a trained classifier to production: what is served, as a SavedModel, and how servers are asked."""
