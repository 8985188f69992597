"""The PostgreSQL schema, its engine, and what is tied to its transactions."""
