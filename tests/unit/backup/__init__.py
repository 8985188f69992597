"""Unit tests of backup."""
