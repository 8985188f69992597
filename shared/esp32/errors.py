"""What is wrong with an image."""

from __future__ import annotations

from shared.errors import InvalidInputError


class ImageError(InvalidInputError):
    """An image breaks a rule of its format or of its model.

    The details are `field` (which part of the image), `found` and `expected`.
    """

    def __init__(self, field: str, *, found: object, expected: object) -> None:
        super().__init__(
            f"{field}: expected {expected}, found {found}", field=field, found=found, expected=expected
        )
