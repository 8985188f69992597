"""What a deployment is made of: certificates, the broker's and Keycloak's files."""
