"""Stored images: uploads, signing keys, releases and retention."""
