"""Questions that a benchmark asks: found in tiers, dropped or listed for review.

| tier | finds | by default |
|---|---|---|
| `whole` | a whole benchmark question, or one of its parts, in normal form | dropped |
| `letters` | its words, letters and digits one after another, whatever became of the notation | dropped |
| `s1_ngrams` | eight words in a row, as s1's code has it | reviewed |
| `ngrams` | words, letters and numbers in a row in normal form, without signs | reviewed |
| `template` | the whole question with other numbers | reviewed |
| `overlap` | most of its tokens and pairs of tokens, weighted, in any order | reviewed |
| `embedding` | a meaning close to it, by a sentence encoder, with the same numbers | off |

`DecontaminationConfig` says which tiers drop and which are reviewed; `recipe: s1_code` is s1's rule alone. That rule
has false positives, because stock phrases are long enough to match, and is blind to questions of seven words and to
punctuation; so it drops nothing unless it is told to.
"""

from s1ray.curation.decontamination.benchmarks import benchmark_questions
from s1ray.curation.decontamination.embeddings import check_meanings
from s1ray.curation.decontamination.hits import Finding, Hit, leak_reason
from s1ray.curation.decontamination.index import BenchmarkIndex

__all__ = ["BenchmarkIndex", "Finding", "Hit", "benchmark_questions", "check_meanings", "leak_reason"]
