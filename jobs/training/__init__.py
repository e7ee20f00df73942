"""Train, tune and export a model; the registry of releases."""
