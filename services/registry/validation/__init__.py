"""Validation of configurations and their schemas, in a process that they can neither block nor exhaust."""
