"""Comparison of database, Keycloak and broker as a whole, and repair of differences."""
