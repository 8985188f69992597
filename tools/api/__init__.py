"""The API documents, generated from the declarations."""
