"""The main jobs on a broker of two nodes."""
