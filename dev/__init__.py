"""Development tools on a stack of real servers: the demo of `make run`, benchmarks, the soak test."""
