"""What stands after the answer of a text and is none: courtesy, "as required", a sign for the end, a check.

Only what is known to say nothing is taken away: what stands before it may be read as the answer.
"""

from __future__ import annotations

import re
import unicodedata

_WORK = r"(?:proof|solution|answer|problem|calculation|computation|derivation|argument|exercise|question|task|claim)"
_WANTED = (
    r"as (?:was )?(?:required|desired|claimed|wanted|needed|requested|expected|asked"
    r"|to be (?:shown|proved|proven|found))"
)
_CLOSING = re.compile(
    r"(?:and |so |hence |thus |therefore |now )?,?\s?(?:"
    r"(?:i |we )?(?:really |sincerely )?hope (?:this|that|it|i|you|the|my|these|all)\b.*"
    r"|(?:please |just )?(?:let me know|feel free|(?:do not|don't) hesitate|reach out)\b.*"
    r"|(?:is|was) there (?:anything|something)\b.*|any(?: other| more| further)? questions\b.*"
    r"|(?:do|did) you (?:have|need|want|understand|see|follow)\b.*\?"
    r"|(?:would|shall|should|can|could|may) (?:you|i|we)\b.*\?"
    r"|does (?:this|that|it) (?:help|make sense|answer)\b.*|if you (?:have|need|would like)\b.*"
    r"|(?:i am|i'm|i'd be|i would be|i'll be)? ?(?:always )?(?:happy|glad) to (?:help|explain|clarify|assist)\b.*"
    r"|thank(?:s|(?= you))(?! to\b).*|good luck\b.*"
    r"|(?:happy|keep|enjoy) (?:learning|studying|coding|solving|practi[cs]ing)\b.*"
    r"|cheers|(?:best|kind|warm)? ?regards|take care|have a (?:nice|great|good|wonderful|lovely) \w+|you're welcome"
    r"|(?:great|good|nice) (?:job|work|question)|well done"
    r"|(?:this|that|which|it) (?:now )?(?:completes|concludes|finishes|ends|solves)"
    rf" (?:the|our|this|your|my) (?:\w+ )?{_WORK}"
    rf"|(?:the|our|this|my) {_WORK} is (?:now )?(?:complete|completed|finished|done)"
    r"|(?:we are|we're|i am|i'm|all) (?:now )?(?:done|finished)|done|finished|the end"
    r"|that(?:'s| is) (?:it|all)(?: for now)?"
    rf"|(?:this|that|which|it) is (?:the|our|my|your) (?:final |required |desired |correct )?(?:answer|result|solution)"
    rf"|q\.? ?e\.? ?d|end of (?:the )?{_WORK}|{_WANTED}|希望.{{0,40}}帮助.{{0,20}}"
    r")",
    re.IGNORECASE | re.DOTALL,
)
"""A sentence, without its full stop."""
_TURN = re.compile(
    r"\d|\\|[$=]|\b(?:but|however|actually|instead|wait|except|unless|not (?:right|correct))\b", re.IGNORECASE
)
"""In a sentence that does more than close the text."""
_AFTERTHOUGHT = re.compile(
    rf"[,;]?\s+(?:{_WANTED}|which (?:completes|concludes) (?:the|our) {_WORK})[.!]?$", re.IGNORECASE
)
# What a cut may have left of a chat's control tokens.
_CONTROL = re.compile(r"(?:<\|[a-z_]{1,30}\|>(?:[ \t]{0,9}\n?[ \t]{0,9}(?:user|assistant|system))?|</s>)$")
_END_SIGN = re.compile(
    r"(?:(?<=\n)|^)[ \t]*(?:[-*_=~#]{2,}|`{3,}[a-z]{0,10}|\$?\\(?:blacksquare|square|Box|qed)\$?|\[end\])[ \t]*$"
)
_NO_SIGNS = "°℃℉✗✘❌❎❓"
_SENTENCE = re.compile(r"(?<=[.!?。！？])[\"')*_]{0,4}\s+|(?<=[$\])*])\s+|\n|(?<=[。！？])")
_LIST_NUMBER = re.compile(r"(?:(?<=\n)|^)\s{0,9}(?:\d{1,2}[.)]|[-*•])\s{0,9}$")
_SIGNIFICANT = 300
"""Characters at the end in which a sentence must begin."""
_MAX_CLOSINGS = 40
_CHECK = re.compile(
    r"(?:(?<=\n)|^)[ \t]{0,9}[#*_>\-•]{0,6}[ \t]{0,4}[*_]{0,3}"
    r"(?:(?:quick |sanity |double[- ])?check(?:ing)?|verification|verify|verifying)"
    r"(?: (?:the |our |my |your )?(?:answer|result|solution|work))?[*_]{0,3}[ \t]{0,4}(?:[:：]|(?=\n))",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"\b(?:not|wrong|mistake|error|fails?|but|however|actually|instead|wait|so|thus|therefore|hence|answer|final|"
    r"correct(?:ed|ion)?\s+(?:value|is))\b|n't|[≠✗✘❌❎∴]|\\(?:ne|neq|therefore)\b",
    re.IGNORECASE,
)
_CHECK_MAX = 2000


def without_closing(text: str) -> str:
    """The text without closing sentences and signs at its end: an emoji, a line of dashes, "∎" and the like."""
    end = len(text)
    for _ in range(_MAX_CLOSINGS):
        end = _before_signs(text, end)
        begin = max(0, end - _SIGNIFICANT)
        tail = text[begin:end]
        if match := _CONTROL.search(tail) or _END_SIGN.search(tail) or _AFTERTHOUGHT.search(tail):
            end = begin + match.start()
            continue
        breaks = [*_SENTENCE.finditer(tail, 0, len(tail.rstrip(" \t*_.!?。！？")))]
        place = breaks[-1].end() if breaks else 0
        sentence = tail[place:].strip(" \t*_#>").rstrip(".!。！ ")
        if (begin and not breaks) or _TURN.search(sentence) or not _CLOSING.fullmatch(sentence):
            return text[:end]
        end = begin + len(_LIST_NUMBER.sub("", tail[:place]))
    return text[:end]


def without_check(text: str) -> str:
    """The text without a check of the answer at its end ("**Check:** 40 + 2 = 42"), unless that comes to something."""
    begin = max(0, len(text) - _CHECK_MAX)
    checks = [*_CHECK.finditer(text, begin)]
    if not checks or _CONCLUDES.search(text, checks[-1].end()) or not text[: checks[-1].start()].strip():
        return text
    return without_closing(text[: checks[-1].start()])


def _before_signs(text: str, end: int) -> int:
    while end and (
        text[end - 1].isspace()
        or text[end - 1] in "∎‍\ufe0f"
        or (unicodedata.category(text[end - 1]) in ("So", "Sk") and text[end - 1] not in _NO_SIGNS + "^`´")
    ):
        end -= 1
    return end
