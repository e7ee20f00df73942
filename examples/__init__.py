"""Real data sets: a loader for each."""
