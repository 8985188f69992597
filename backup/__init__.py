"""Backup and restore of an installation: database, identities, broker accounts and images."""
