"""A Progress in memory, for steps and models that are run without a terminal."""


class Quiet:
    """Keeps what it is told."""

    def __init__(self):
        self.steps, self.said = [], []

    def say(self, text):
        self.said.append(text)

    def task(self, title, total):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def advance(self, steps=1, note=""):
        self.steps.append(steps)
