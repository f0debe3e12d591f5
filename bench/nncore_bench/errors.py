"""The error for mistakes that a user can fix; the edges turn it into one sentence and an exit code."""


class UserError(ValueError):
    """One sentence that names the value, in the user's terms, and the way out."""
