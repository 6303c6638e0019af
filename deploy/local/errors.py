"""The error that the user sees."""


class StartError(Exception):
    """A command cannot do its work: the problem, and what the user can do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n{remedy}")
        self.problem = problem
        self.remedy = remedy
