"""Programs of the containers in compose.yaml, besides the services."""
