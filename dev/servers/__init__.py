"""The servers that tests and `make run` start: PostgreSQL, Mosquitto, Keycloak; processes or containers."""
