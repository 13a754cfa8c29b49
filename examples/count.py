"""What the file examples ask about a text: its lines, words, bytes and Adler-32 checksum."""
import zlib


def count(text: bytes) -> bytes:
    lines, words = text.count(b"\n"), len(text.split())
    return b"lines %d words %d bytes %d adler32 %08x" % (lines, words, len(text), zlib.adler32(text))
