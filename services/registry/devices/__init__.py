"""Devices: provisioned, listed, updated, seen online, recovered and removed."""
