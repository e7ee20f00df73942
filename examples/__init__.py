"""Public data sets: a loader for each, and the run of all jobs on it."""
