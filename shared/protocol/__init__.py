"""The protocol, declared once: topics, payloads and admin operations."""
