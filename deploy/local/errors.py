"""The one error people see."""


class StartError(Exception):
    """Something needed is missing or in the way: what it is, and what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n{remedy}")
        self.problem = problem
        self.remedy = remedy
