"""SQL views and functions over the lake, and queries on them."""
