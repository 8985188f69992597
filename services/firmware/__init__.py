"""Firmware images and their delivery."""
