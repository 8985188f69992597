"""Keycloak and its tokens."""
