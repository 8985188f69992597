"""Soak test: whether the services' memory stays flat under a simulated fleet: `python -m dev.soak`."""
