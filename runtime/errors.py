"""The one exception for what a user can mend."""


class RealCompoError(ValueError):
    """Bad input or a bundle that does not fit: the message names the value, the limit and what mends it.

    The command lines print it as one line and exit with code 2.
    """
