"""One small language model, one expert per department: train, prove, serve."""

import logging
import os

# The libraries below report their use to the hub unless told not to; they read this when they are imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# bitsandbytes says at every start that a package is absent that it would fetch code from a hub with.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__version__ = "0.1.0"
