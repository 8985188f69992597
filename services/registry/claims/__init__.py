"""Claims, by which machines without an identity get one."""
