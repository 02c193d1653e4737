"""The checksum of TensorFlow's files, CRC-32C, computed by NumPy on many words at a time.

It is linear over GF(2): the checksum of two pieces, one after the other, is that of the first moved on by the length of
the second, with exclusive or that of the second. So neighbours are joined, then pairs of them, and so on.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78
# Four bytes that bring the register from 0 to all ones, where CRC-32C begins.
BEGIN = bytes.fromhex("54641f64")
WORD_BYTES = 4
# Pieces of this size keep the intermediate words in a processor's cache.
PIECE_WORDS = 2**16
MASK_DELTA = 0xA282EAD8


def crc32c(data: NDArray[Any]) -> int:
    """The checksum of an array of bytes."""
    import numpy as np

    piece = PIECE_WORDS * WORD_BYTES
    rest = len(data) % piece
    # Zeros before a message change nothing while the register is 0.
    first = np.concatenate([np.zeros(-rest % WORD_BYTES, np.uint8), np.frombuffer(BEGIN, np.uint8), data[:rest]])
    pieces = [first.view("<u4"), *data[rest:].view("<u4").reshape(-1, PIECE_WORDS)]
    message = _joined(np.array([_joined(words, 0) for words in pieces], "<u4"), PIECE_WORDS.bit_length() - 1)
    # Words stood for their registers so far, which are the words moved on by one.
    return int(_moved(np.array([message], "<u4"), 0)[0]) ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """The checksum as it is stored, so that one over data with checksums inside stays a good one."""
    return ((checksum >> 15 | checksum << 17) + MASK_DELTA) & 0xFFFFFFFF


def _joined(words: NDArray[Any], level: int) -> int:
    """The register of a message in pieces of 2^level words, from the register of each, as if each were alone."""
    import numpy as np

    while len(words) > 1:
        if len(words) % 2:
            words = np.concatenate([np.zeros(1, "<u4"), words])
        words = _moved(words[::2], level) ^ words[1::2]
        level += 1
    return int(words[0])


def _moved(registers: NDArray[Any], level: int) -> NDArray[Any]:
    """The registers after 2^level words of zeros."""
    import numpy as np

    halves = np.ascontiguousarray(registers).view("<u2")
    low, high = _tables(level)
    moved: NDArray[Any] = low.take(halves[::2], mode="clip") ^ high.take(halves[1::2], mode="clip")
    return moved


@cache
def _tables(level: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """What becomes of the lower and of the upper 16 bits of a register in 2^level words of zeros."""
    import numpy as np

    images = _images(level)
    tables = []
    for bits in (images[:16], images[16:]):
        table = np.zeros(1, "<u4")
        for image in bits:
            table = np.concatenate([table, table ^ image])
        tables.append(table)
    return tables[0], tables[1]


@cache
def _images(level: int) -> NDArray[Any]:
    """What becomes of each single bit of a register in 2^level words of zeros."""
    import numpy as np

    if level > 0:
        return _moved(_images(level - 1), level - 1)
    images = []
    for bit in range(32):
        register = 1 << bit
        for _ in range(8 * WORD_BYTES):
            register = register >> 1 ^ (POLYNOMIAL if register & 1 else 0)
        images.append(register)
    return np.array(images, "<u4")
