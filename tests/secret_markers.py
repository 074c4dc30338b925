"""Secrets that are recognised wherever they turn up, and the search for them in any spelling."""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

_CORE_BYTES = 10
_FIRST_CHARACTER = (0, 2, 3)
"""Of base64, by how many bytes stand before: the first that no other byte has a part in."""


@dataclass(frozen=True)
class Marker:
    """A secret made for one setting; `core` stands in it and nowhere else."""

    name: str
    core: str = field(default_factory=lambda: f"zqx{secrets.token_hex(_CORE_BYTES)}")

    @property
    def password(self) -> str:
        """A password that no URL, JSON text or shell takes as it is."""
        return f'p/"{self.core}\\ &é@:'

    @property
    def word(self) -> str:
        """A secret of letters and digits alone."""
        return self.core

    @property
    def key(self) -> str:
        """Thirty-two bytes in base64."""
        return base64.b64encode(self.core.encode().ljust(32, b".")).decode()

    @property
    def spellings(self) -> dict[str, bytes]:
        """The core in each spelling, in lower case but for base64."""
        plain = self.core.encode()
        shown = self.core.lower().encode()
        found = {"plain": shown, "hex": plain.hex().encode()}
        for before, first in enumerate(_FIRST_CHARACTER):
            text = base64.b64encode(b"\0" * before + plain)
            whole = (before + len(plain)) * 8 // 6
            found[f"base64 after {before}"] = text[first:whole]
        return found


def find_leaks(outputs: Mapping[str, str | bytes], markers: list[Marker]) -> list[str]:
    """Return a line for each marker in each output, in whatever spelling."""
    leaks = []
    for output, given in outputs.items():
        content = given if isinstance(given, bytes) else given.encode(errors="replace")
        in_lower_case = content.lower()
        for marker in markers:
            for spelling, wanted in marker.spellings.items():
                where = content if spelling.startswith("base64") else in_lower_case
                if (place := where.find(wanted)) >= 0:
                    around = content[max(0, place - 120) : place + 160].decode(errors="replace")
                    leaks.append(f"{marker.name} in {output} ({spelling}): …{around}…")
                    break
    return leaks
