"""Train, tune and probe a network."""
