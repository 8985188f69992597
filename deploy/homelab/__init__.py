"""What the containers of compose.yaml run beside the services themselves."""
