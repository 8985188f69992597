"""What makes a process a service: settings, start and stop, logs, metrics, health."""
