"""The exceptions for what a user can mend."""


class RealCompoError(ValueError):
    """Bad input or a bundle that does not fit: the message names the value, the limit and what mends it.

    The command lines print it as one line and exit with code 2.
    """


class FieldError(RealCompoError):
    """A field of a region or a layout that is wrong. Who reads it from a file says where the field stands there."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
