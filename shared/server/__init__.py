"""The server side of a service: its connection to the broker, its health, and the admin operations as RPC."""
