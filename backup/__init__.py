"""Backup and restore of the whole: database, identities, broker accounts and images."""
