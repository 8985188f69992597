"""Devices' secrets in database, Keycloak and broker: comparison and repair."""
