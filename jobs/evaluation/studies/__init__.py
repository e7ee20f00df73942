"""Comparisons over seeds, a training for each: what `instructue evaluate` makes beside that of a release (`kinds`)."""
