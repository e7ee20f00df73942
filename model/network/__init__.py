"""The torch network and its forward passes."""
