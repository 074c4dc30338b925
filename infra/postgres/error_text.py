"""Hides the rows and cells that an error quotes, of PostgreSQL or on the way there; the rest stays.

duplicate key value violates unique constraint "customers_email_key"
DETAIL:  Key (email)=(•••) already exists.
"""

import re

# Where a quotation can end at the earliest. A cell may hold quotation marks, brackets and line
# breaks; where no end is to be seen, all that follows is hidden. White space is counted, because
# a cell may hold a lot of it.
_END = (
    r"(?=\.?\s{0,20}\Z"
    r"|\.?\n[\s|]{0,40}(?:HINT|DETAIL|CONTEXT|STATEMENT|QUERY|LOCATION):"
    r"|\.?\n[\s|]{0,40}(?:During handling of|The above exception was|Traceback \()"
    r"|\.?\n[\s|]{0,40}\+-)"
)
_KEY_END = (
    r"(?= (?:already exists|is not present in|is still referenced|is duplicated"
    r"|conflicts with (?:existing )?key|does not exist)"
    rf"|\.\s{{0,20}}\Z)|{_END}"
)
_REST = r"[\s\S]*?"

_QUERY_ARGUMENT = (
    r"(invalid input for query argument \$\d+[^:\n]{0,80}: )"
    rf"(?:{_REST}( \((?:an? |expected |'\w+' object |value |invalid )[^\n]{{0,400}}\)){_END}"
    r"|[\s\S]*)"
)
_CELL = (
    r"((?:invalid (?:input|byte)[^\n:]{1,90}|out of range|malformed [\w ]{1,40} literal"
    r"|COPY [^\n]{1,140}?(?:line \d+|column [^\n:]{1,64})): \")"
    rf"(?:{_REST}(\"){_END}|[\s\S]*)"
)

_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (sign, re.compile(pattern))
    for sign, pattern in (
        ("ey (", rf"([Kk]ey \([^\n]{{1,400}}?\) ?= ?\()(?:{_REST}(\))(?:{_KEY_END})|[\s\S]*)"),
        ("ailing row", rf"([Ff]ailing row contains \()(?:{_REST}(\)){_END}|[\s\S]*)"),
        ("query argument", _QUERY_ARGUMENT),
        (': "', _CELL),
        ("is out of range", r"(value \")[\s\S]{0,2000}?(\" is out of range)"),
        ("oken ", rf"(Token \")(?:{_REST}(\" is invalid)|[\s\S]*)"),
        ("but found ", rf"(but found \")(?:{_REST}(\"){_END}|[\s\S]*)"),
        ("JSON data, ", rf"(JSON data, line \d+: )(?:{_REST}(){_END}|[\s\S]*)"),
        ("$", r"(\$\d+ = ')(?:[^']|'')*+('?)"),
        (
            "nvalid literal",
            rf"(invalid literal for int\(\)[^:]{{0,40}}: )(?:{_REST}(){_END}|[\s\S]*)",
        ),
        ("not convert", rf"(could not convert string to \w+: )(?:{_REST}(){_END}|[\s\S]*)"),
        ("out of ", rf"(for \d+ out of \d+ values: \[)(?:{_REST}(\]){_END}|[\s\S]*)"),
    )
)
"""What must stand in a text for a pattern to be tried, and the pattern: before, after the value."""


def hide_values(text: str, mask: str) -> str:
    """Return the text with `mask` in place of each value that an error quotes."""
    for sign, pattern in _PATTERNS:
        if sign in text:
            text = pattern.sub(lambda found: f"{found[1]}{mask}{found[2] or ''}", text)
    return text
