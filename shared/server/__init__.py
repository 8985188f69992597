"""What the services serve with: their connection to the broker, their health, and the admin operations as RPC."""
