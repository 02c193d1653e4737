"""The ``gpt2ln`` program, also as ``python -m gpt2ln_cli``."""

from __future__ import annotations

import contextlib
import gc
import os
import sys

from gpt2ln_cli.leaving import leave_on_signals


def run() -> None:
    """Run the command line and leave the process."""
    leave_on_signals()
    # Importing torch and transformers makes millions of objects that live on; collecting among them costs a third of
    # the start-up. Cycles are still collected, only less often.
    gc.set_threshold(200_000, 50, 1000)
    # huggingface_hub logs its retries over several lines; what comes of them is said in one.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    from gpt2ln_cli.app import main

    code = main()
    if sys.stdout is not None:
        sys.stdout.flush()
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
    # Everything is written: taking torch's modules down one by one would only take time, and an interrupted encoding
    # goes on in its thread.
    if not sys.modules.keys().isdisjoint(("torch", "tokenizers")):
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
