"""Fails, with the reason, where standard input is no valid CycloneDX 1.6. The tools run it."""

import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
if error is not None:
    sys.exit(f"it is no valid CycloneDX: {error}")
