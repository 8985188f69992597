"""The API as documents, made from the declarations: `python -m tools.api`, or `make asyncapi`."""
