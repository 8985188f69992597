"""The image that each device should have, by its model or a rollout, and its progress with it."""
