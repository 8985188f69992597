"""The PostgreSQL schema, its engine, and the outbox."""
