"""Where inserted waits stand in the text of a response: from positions of ids to positions of characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from s1ray.thinking.format import TokenizedFormat


def wait_characters(
    tokenized: TokenizedFormat,
    output_ids: Sequence[int],
    blocks: Iterable[tuple[int, int]],
    waits: Sequence[tuple[int, int]],
    thinking: str,
) -> list[int] | None:
    """Begin and end of every inserted wait in `thinking`, in turn, in characters (code points).

    Args:
        tokenized: the model's thinking format.
        output_ids: the response.
        blocks: positions [begin, end) in it of each block of thinking.
        waits: positions in it of each inserted wait; an empty one is a stop that was suppressed without a text.
        thinking: the text of the blocks, as `TokenizedFormat.texts` makes it.

    Returns:
        None where the text does not fit the ids, so that nothing could be marked rightly.
    """

    def decoded(begin: int, end: int) -> str:
        return tokenized.tokenizer.decode(list(output_ids[begin:end]), skip_special_tokens=True)

    found: list[int] = []
    at = 0
    for begin, end in blocks:
        whole = decoded(begin, end)
        shown = whole.strip("\n")
        lead = len(whole) - len(whole.lstrip("\n"))
        for first, last in waits:
            if begin <= first and last <= end:
                # Lengths of beginnings, since a tokenizer may write the same ids otherwise at the start of a text.
                places = (len(decoded(begin, place)) - lead for place in (first, last))
                found += [at + min(max(0, place), len(shown)) for place in places]
        if not shown:
            continue
        if thinking[at : at + len(shown)] != shown:
            return None
        at += len(shown) + len("\n\n")
    return [min(place, len(thinking)) for place in found] if len(found) == 2 * len(waits) else None
