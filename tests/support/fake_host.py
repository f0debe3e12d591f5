"""A host whose time passes only when somebody waits or reads its clock."""


class FakeHost:
    """A clock that each reading moves on by `reading_ns`, and a wait by exactly its length."""

    def __init__(self, reading_ns: int = 0) -> None:
        self.ns = 1_000_000_000
        self.reading_ns = reading_ns

    def now(self) -> int:
        self.ns += self.reading_ns
        return self.ns

    def wait(self, nanoseconds: int) -> None:
        self.ns += nanoseconds
