"""Text whose characters are hidden, so that its form alone is still seen."""

import re

_DOT = "•"
# All but white space and ASCII's punctuation: `\w` would leave the vowel signs of many scripts.
_HIDDEN = re.compile(r"[^\s!-/:-@\[-^`{-~]")


def hide(text: str) -> str:
    """Return the text with every character but its punctuation and white space hidden."""
    return _HIDDEN.sub(_DOT, text)
