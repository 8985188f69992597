"""Notifications: rules on what happens, and messages to webhooks and people."""
