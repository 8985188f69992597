"""The protocol: declarations of all topics, payloads, events and admin operations."""
