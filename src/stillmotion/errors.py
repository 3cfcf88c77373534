"""Errors meant for the person at the keyboard: one sentence that says what is wrong and what to do."""


class StillmotionError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence for a person; the command line prints it and exits with code 2. Programming
    mistakes inside the library raise ordinary exceptions instead.
    """
