"""What keeps a process from starting."""


class StartError(Exception):
    """Something cannot be started; the message is one sentence for the owner."""
