"""The connection to the broker, and the dispatch of messages to their handlers."""
