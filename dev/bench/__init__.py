"""Benchmarks of speed and memory against baselines measured in the same run: `make bench`."""
