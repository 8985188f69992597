"""Models, devices, their identities and their configuration."""
