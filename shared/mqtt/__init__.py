"""The connection to the broker, and the way of messages to their handlers."""
