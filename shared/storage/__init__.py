"""Storage of images."""
