"""The servers of tests and `make run`: PostgreSQL, Mosquitto and Keycloak, as processes or containers."""
