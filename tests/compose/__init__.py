"""compose.yaml on a Docker engine."""
