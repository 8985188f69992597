"""Admins' accounts."""
