"""The tests of this wing need vLLM; where it is not installed they are left out."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("vllm") else ["*"]
