"""Unit tests of firmware."""
