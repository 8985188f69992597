"""The way of an image to a device over MQTT, and what the device reports of it."""
