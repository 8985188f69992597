"""The native stack and what is run on it by hand: the story of `make run`, benchmarks, the soak."""
