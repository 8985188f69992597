"""Core dumps, log lines and vitals of devices."""
