"""Delivery of images to devices over MQTT."""
