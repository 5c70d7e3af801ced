"""Whether this server wants traffic, apart from what MLServer says of its models."""


class Readiness:
    """Closed until the models are warm, and again from the moment the server is told to stop."""

    def __init__(self) -> None:
        self.open = False
        self.reason = "loading and warming up"

    def admit(self) -> None:
        """From now on MLServer's own answer counts."""
        self.open = True

    def close(self) -> None:
        """Take no new callers."""
        self.open = False
        self.reason = "stopping"
