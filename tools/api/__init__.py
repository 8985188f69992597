"""The API as documents, made from the declarations."""
