"""Devices' secrets in database, Keycloak and broker: compared, and made to agree."""
