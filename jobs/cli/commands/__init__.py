"""The commands of `instructue`, a file for each of its panels (`jobs.cli.main`)."""
