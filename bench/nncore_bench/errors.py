"""The error that a user can mend, which becomes one sentence and an exit code at the edges."""


class UserError(ValueError):
    """One sentence with the value, in the user's own terms, and the way out."""
