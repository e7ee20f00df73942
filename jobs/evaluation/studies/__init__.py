"""Studies: comparisons over seeds that `instructue evaluate` makes (`registry` lists them)."""
