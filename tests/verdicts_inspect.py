"""What makes each claim of ``inspect`` come out one way and the other."""

from __future__ import annotations

import pytest

import gpt2ln_cli
from gpt2ln_cli.model.instrument import Instrument


def counted_twice():
    """No model's kernel is called twice at a site, so the instrument is made to say so."""
    original = Instrument.read

    def twice(self, batch):
        readings = original(self, batch)
        return [*readings, readings[-1]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Instrument, "read", twice)
        return gpt2ln_cli.inspect("the")


CLAIM = "inspect.one_for_each_token"
CASES = [(CLAIM, "yes", lambda: gpt2ln_cli.inspect("the war")), (CLAIM, "no", counted_twice)]
