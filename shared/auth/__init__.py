"""Keycloak, its tokens, and the cryptography of secrets."""
