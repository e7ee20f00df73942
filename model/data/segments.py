"""The segments of a packed sequence: the number that says which part of the sequence a token belongs to.

Suffix k of a sequence has the segment k, counted from 1.
"""

PROFILE = 0
"""A token of the profile."""
PADDING = -1
"""A token that fills the sequence up and is never read."""
