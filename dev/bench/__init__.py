"""How fast it is, and what it costs, against a baseline of the same run: `make bench`."""
