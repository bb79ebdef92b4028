"""One small language model, one expert per department: train, prove, serve."""

import logging
import os
import sys

# The libraries below report their use to the hub unless told not to, which they read when they are imported.
if "HF_HUB_DISABLE_TELEMETRY" not in os.environ:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if "huggingface_hub.constants" in sys.modules:
        sys.modules["huggingface_hub.constants"].__dict__["HF_HUB_DISABLE_TELEMETRY"] = True

# bitsandbytes says at every start that a package is absent that it would fetch code from a hub with.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__version__ = "0.1.0"
