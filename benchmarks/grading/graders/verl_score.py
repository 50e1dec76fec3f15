"""verl's scores: of MATH (a box, compared as text) and of the Numina sets (PRIME's, with sympy).

    verl_score.py math|numina CASES VERDICTS START

Only `verl.utils.reward_score` is imported: the package itself wants Ray and a GPU's libraries.
"""

import importlib.util
import sys
import types

which = sys.argv.pop(1)
spec = importlib.util.find_spec("verl")
assert spec is not None
assert spec.submodule_search_locations is not None
for name, folder in (("verl", ""), ("verl.utils", "/utils")):
    package = types.ModuleType(name)
    package.__path__ = [f"{spec.submodule_search_locations[0]}{folder}"]
    sys.modules[name] = package
from loop import run  # noqa: E402
from verl.utils.reward_score import default_compute_score  # noqa: E402

SOURCE = {"math": "HuggingFaceH4/MATH-500", "numina": "numina_olympiads"}[which]


def judge(gold: str, text: str) -> tuple[str, str]:
    """A verdict on one case."""
    score = default_compute_score(SOURCE, text, gold)
    value = score["score"] if isinstance(score, dict) else score
    return "correct" if float(value) > 0 else "incorrect", str(score)[:200]


judge("1", "\\boxed{1}")
run(judge)
