"""Histories of a device for authors of firmware, docs/vectors/traces.json: what happens, and what follows."""
