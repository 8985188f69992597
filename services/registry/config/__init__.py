"""Configurations: validated, layered, versioned, and sent to devices."""
