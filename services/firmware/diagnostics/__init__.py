"""Core dumps and log lines of devices."""
