"""Questions whose answer cannot be compared with a reference: proofs, and several questions in one."""

from __future__ import annotations

import re

_PROVE = re.compile(
    r"(?:^|[.!?;:$\n]\s*|\b(?:then|and|to|please|or)\s+)(?:prove|disprove|show|justify|verify|demonstrate)\b"
    r"(?:\s+(?:that|the|why|whether|there|if|it)\b|[:,]?\s*[$(\\])",
    re.IGNORECASE,
)
_FIND = re.compile(
    r"\b(?:find|determine|compute|calculate|evaluate|solve|simplify|express|what|how\s+(?:many|much|long|far|old)|which)\b"
    r"|\?",
    re.IGNORECASE,
)
PROOF_SUSPECTS = "(?i:prove|show|justify|verify|demonstrate)"
"""In what `asks_for_a_proof` finds, in RE2's syntax."""

_ASKS = (
    r"(?:find|determine|compute|calculate|evaluate|prove|show|verify|solve|simplify|express|explain|describe|derive|"
    r"estimate|sketch|draw|give|write|state|list|justify|deduce|hence|what|how|which|who|why|is|are|does|do|"
    r"can|for\s+(?:what|which)|in\s+how)"
)
_PART = re.compile(rf"(?:(?<=\s)|^)\(?(?:([a-h])|(i{{1,3}}|iv|v)|([1-9]))[).]\s+{_ASKS}\b", re.IGNORECASE)
PARTS_SUSPECTS = "(?:^|[^!-~])\\(?(?:[aA]|[iI]|1)[).][^!-~]"
"""In what `has_parts` finds, in RE2's syntax."""
_SEQUENCES = (["a", "b"], ["i", "ii"], ["1", "2"])


def asks_for_a_proof(question: str) -> bool:
    """Whether a question asks to prove something, and for nothing else."""
    return _PROVE.search(question) is not None and _FIND.search(question) is None


def has_parts(question: str) -> bool:
    """Whether the first two of labelled parts both ask something: a list of conditions or of options does not."""
    labels = [match.groups() for match in _PART.finditer(question)]
    return any(
        [groups[kind].lower() for groups in labels if groups[kind]][:2] == sequence
        for kind, sequence in enumerate(_SEQUENCES)
    )
