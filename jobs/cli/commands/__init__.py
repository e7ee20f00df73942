"""The commands of `instructue`, by the panels of its help page (`jobs.cli.main`)."""
