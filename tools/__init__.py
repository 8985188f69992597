"""What makes documents out of the code; nothing of it runs in a service."""
