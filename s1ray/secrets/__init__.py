"""Secrets: named by reference in configs, refused where they stand in the open, and taken out of what is shown.

A config says where a key is, never what it is, because a config is recorded in `manifest.json`, shown by Ray's job API
and copied into reports:

    api_key: env:DEEPSEEK_API_KEY
    api_key: file:/run/secrets/deepseek

`references` is the type of such a field, `recognition` what a secret looks like, and `redaction` what keeps the values
that this process knows out of its messages, logs and files.
"""

from s1ray.secrets.recognition import FreeFields, InlineSecretError, free_fields, refuse_in_text, refuse_inline
from s1ray.secrets.redaction import MARK, Redaction, redact, redact_known
from s1ray.secrets.references import Secret, SecretError

__all__ = [
    "MARK",
    "FreeFields",
    "InlineSecretError",
    "Redaction",
    "Secret",
    "SecretError",
    "free_fields",
    "redact",
    "redact_known",
    "refuse_in_text",
    "refuse_inline",
]
