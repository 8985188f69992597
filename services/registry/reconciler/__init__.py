"""Compares database, Keycloak and broker as wholes, and repairs what differs."""
