"""The frame of a service process: settings, start and stop, logs, metrics, health."""
