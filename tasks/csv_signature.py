"""What a file is when it is no text: known by its first bytes, or by what no text contains."""

import codecs
import re

SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1\0\0", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x1f\x8b", "a gzip archive inside another"),
)
BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
CONTROLS = re.compile(r"[\x01-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
MIN_CONTROLS = 32
CONTROL_SHARE = 0.05
"""Random bytes hold about 12% of them."""
NUL_SHARE = 0.3


def describe_binary(sample: bytes, encoding: str) -> str | None:
    """Return what the file is, with its article, or None if its first bytes can be text."""
    for signature, what in SIGNATURES:
        if sample.startswith(signature):
            return what
    if BZIP2.match(sample):
        return "a bzip2 archive"
    try:
        # An incremental decoder does not mind that the sample may end within a character.
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        text = sample.decode("latin-1")
    controls = len(CONTROLS.findall(text))
    nuls = text.count("\0")
    if (controls >= MIN_CONTROLS and controls > CONTROL_SHARE * len(text)) or (
        nuls >= MIN_CONTROLS and nuls > NUL_SHARE * len(text)
    ):
        return "a binary file"
    return None
