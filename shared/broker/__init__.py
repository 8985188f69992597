"""Accounts and rights in the broker."""
