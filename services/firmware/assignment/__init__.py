"""Which image a device should have, of its model or of a rollout, and how far it has come with it."""
