"""Reading a few tensors of a safetensors file on the Hub by HTTP range requests, without fetching the file.

A safetensors file begins with the length of its header (8 bytes, little-endian), then the header (JSON), which says
where each tensor's bytes lie. Nothing the header says is believed before it is checked against the file's size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from gpt2ln_cli.checkpoint.tensors import Array

LENGTH_BYTES = 8
# One request brings the header of nearly every GPT-2: gpt2-xl's 580 tensors take about 60,000 bytes.
FIRST_BYTES = 65_536
# Two ranges this close are read as one: the bytes between them cost less than another request.
NEAR_BYTES = 65_536
CONNECTIONS = 8
ATTEMPTS = 3
PAUSE_S = 1.0
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


class RangesRefusedError(Exception):
    """The server does not honour range requests; the whole file has to be fetched."""


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class Place:
    """One tensor of a file: safetensors' name of its type, its shape, and the bytes [start, stop) that it takes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class RemoteFile:
    """A safetensors file on the Hub.

    Attributes:
        name: what messages call it.
        url: where it is.
        size: its length in bytes.
    """

    name: str
    url: str
    size: int

    def tensors(self) -> dict[str, Place]:
        """Read and check the header: where each tensor lies, by its stored name.

        Raises:
            CheckpointError: the header contradicts itself or the file's size, or the server fails.
            RangesRefusedError: the server sends something other than the range asked for.
        """
        from huggingface_hub.constants import SAFETENSORS_MAX_HEADER_LENGTH

        first = self._read(0, min(FIRST_BYTES, self.size))
        length = int.from_bytes(first[:LENGTH_BYTES], "little")
        data_start = LENGTH_BYTES + length
        if len(first) < LENGTH_BYTES or data_start > self.size or length > SAFETENSORS_MAX_HEADER_LENGTH:
            raise self._damaged(f"a header of {length:,} bytes in a file of {self.size:,}")
        header = first[LENGTH_BYTES:data_start]
        if data_start > len(first):
            header += self._read(len(first), data_start)
        try:
            raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
            raw.pop("__metadata__", None)
            entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in raw.items()}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._damaged(f"its header does not read: {error}") from error
        self._check(entries, self.size - data_start)
        return {
            name: Place(
                entry.dtype, entry.shape, data_start + entry.data_offsets[0], data_start + entry.data_offsets[1]
            )
            for name, entry in entries.items()
        }

    def read(self, places: Sequence[Place]) -> list[Array]:
        """Read tensors of floating-point types, in the order given, each in its own type and shape.

        Raises:
            CheckpointError: the server fails.
            RangesRefusedError: the server sends something other than the range asked for.
        """
        import ml_dtypes
        import numpy as np

        types = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}
        spans = coalesce([(place.start, place.stop) for place in places])
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            blocks = dict(zip(spans, pool.map(lambda span: self._read(*span), spans), strict=True))

        def array(place: Place) -> Array:
            start, block = next(
                (start, block) for (start, stop), block in blocks.items() if start <= place.start <= place.stop <= stop
            )
            data = block[place.start - start : place.stop - start]
            return np.frombuffer(data, types[place.dtype]).reshape(place.shape)

        return [array(place) for place in places]

    def _check(self, entries: dict[str, _Entry], data_bytes: int) -> None:
        """The tensors must fill the file from the header to its end, each as many bytes as its shape says."""
        end = 0
        for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
            start, stop = entry.data_offsets
            if start != end or stop < start or stop > data_bytes:
                raise self._damaged(f"'{name}' has the bytes {start:,} to {stop:,} of {data_bytes:,}")
            if stop - start != math.prod(entry.shape) * ITEM_BYTES.get(entry.dtype, 0) and entry.dtype in ITEM_BYTES:
                raise self._damaged(f"'{name}' has {stop - start:,} bytes for a shape of {list(entry.shape)}")
            end = stop
        if end != data_bytes:
            raise self._damaged(f"its tensors end at byte {end:,} of {data_bytes:,}")

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.name} is damaged or not a safetensors file: {what}.")

    def _read(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop); a broken connection is tried again a few times."""
        from huggingface_hub.errors import HfHubHTTPError

        if start == stop:
            return b""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE_S)
            try:
                return self._request(start, stop)
            except HfHubHTTPError as error:
                failure: Exception = error
                if error.response.status_code == 416:
                    raise RangesRefusedError from error
                if error.response.status_code < 500:
                    break
            except RangesRefusedError:
                raise
            except Exception as error:  # httpx or httpx2, as huggingface_hub's version has it
                failure = error
        raise failure

    def _request(self, start: int, stop: int) -> bytes:
        from huggingface_hub import constants, get_session
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

        headers = {**build_hf_headers(), "Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        # Streamed, so that a server which answers with the whole file is left before it has sent it.
        with get_session().stream("GET", self.url, headers=headers, timeout=timeout) as response:
            hf_raise_for_status(response)
            expected = f"bytes {start}-{stop - 1}/{self.size}"
            if response.status_code != 206 or response.headers.get("Content-Range") != expected:
                raise RangesRefusedError
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > stop - start:
                    break
        if len(data) != stop - start:
            raise RangesRefusedError
        return bytes(data)


def coalesce(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans [start, stop) in order, those that touch, overlap or lie within ``NEAR_BYTES`` made one."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start - merged[-1][1] <= NEAR_BYTES:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged
