"""Generators of documents from the code; no service uses them."""
