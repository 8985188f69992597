"""The story of `make run`."""
