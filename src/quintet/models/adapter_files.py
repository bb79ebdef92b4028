"""Names that PEFT gives to an adapter's files. Imports no compute library."""

ADAPTER_CONFIG = "adapter_config.json"
