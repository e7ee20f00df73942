"""Check a deployment, estimate its cost and maintain its tables."""
