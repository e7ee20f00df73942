"""Source tables to user profiles, point in time."""
