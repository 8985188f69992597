"""The package for MicroPython, run by the unix port of MicroPython itself."""
