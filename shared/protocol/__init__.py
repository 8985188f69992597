"""The protocol, declared once: topics, payloads, admin operations, errors."""
