"""The protocol, declared once: topics, payloads, events and admin operations."""
