"""The files of a deployment: certificates, and the configuration of the broker and of Keycloak."""
