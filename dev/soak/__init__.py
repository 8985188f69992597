"""Whether the services' memory stays flat while a simulated fleet works for a while: `python -m dev.soak`."""
