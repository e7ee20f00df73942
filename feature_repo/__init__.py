"""The Feast objects of a deployment, and the store that holds them."""
