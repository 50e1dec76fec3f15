"""Budget forcing for vLLM's V2 model runner, which keeps a batch's state on the device."""
