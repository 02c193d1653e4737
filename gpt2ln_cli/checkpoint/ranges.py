"""Reading a few tensors of a file on the Hub by HTTP range requests, without fetching the file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gpt2ln_cli.checkpoint.pickled import read_archive
from gpt2ln_cli.checkpoint.safetensors_file import read_header
from gpt2ln_cli.checkpoint.tensors import Place
from gpt2ln_cli.checkpoint.transfers import TOO_MANY, request, until_reset
from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from gpt2ln_cli.checkpoint.tensors import Array

# Two ranges this close are read as one: the bytes between them cost less than another request.
NEAR_BYTES = 65_536
CONNECTIONS = 8
ATTEMPTS = 3
PAUSE_S = 1.0


class RangesRefusedError(Exception):
    """The server does not honour range requests; the whole file has to be fetched."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of weights on the Hub, safetensors or of torch.save.

    Attributes:
        name: what messages call it.
        url: where it is, which for large files is another server than the Hub.
        size: its length in bytes.
    """

    name: str
    url: str
    size: int

    def tensors(self) -> dict[str, Place]:
        """Read and check what the file says of itself: where each tensor lies, by its stored name.

        Raises:
            CheckpointError: it contradicts itself or the file's size, or the server fails.
            RangesRefusedError: the server sends something other than the range asked for, or what the file is must be
                read whole.
        """
        if self.name.endswith(".safetensors"):
            return read_header(self.name, self.size, self._read)
        places = read_archive(self.name, self.size, self._read)
        if places is None:
            raise RangesRefusedError
        return places

    def read(self, places: Sequence[Place]) -> list[Array]:
        """Read tensors of floating-point types, in the order given, each in its own type and shape.

        Raises:
            CheckpointError: the server fails.
            RangesRefusedError: the server sends something other than the range asked for.
        """
        spans = coalesce([(place.start, place.stop) for place in places])
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            blocks = dict(zip(spans, pool.map(lambda span: self._read(*span), spans), strict=True))

        def array(place: Place) -> Array:
            start, block = next(
                (start, block) for (start, stop), block in blocks.items() if start <= place.start <= place.stop <= stop
            )
            return place.array(lambda begin, end: block[begin - start : end - start])

        return [array(place) for place in places]

    def _read(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop); a broken connection is tried again a few times."""
        from huggingface_hub.errors import HfHubHTTPError

        if start == stop:
            return b""
        pause = 0.0
        for _ in range(ATTEMPTS):
            time.sleep(pause)
            pause = PAUSE_S
            try:
                return request(f"'{self.name}'", partial(self._request, start, stop))
            except HfHubHTTPError as error:
                failure: Exception = error
                if error.response.status_code == 416:
                    raise RangesRefusedError from error
                if error.response.status_code == TOO_MANY:
                    pause = until_reset(error.response.headers)
                elif error.response.status_code < 500:
                    break
            except (CheckpointError, RangesRefusedError):
                raise
            except Exception as error:  # httpx or httpx2, as huggingface_hub's version has it
                failure = error
        raise failure

    def _request(self, start: int, stop: int) -> bytes:
        from huggingface_hub import constants, get_session
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

        # Whoever keeps the Hub's large files has no business with the token.
        token = None if urlsplit(self.url).netloc == urlsplit(constants.ENDPOINT).netloc else False
        headers = {**build_hf_headers(token=token), "Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
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
