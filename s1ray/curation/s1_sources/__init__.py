"""s1's sixteen sources as named loaders, each from the Hub or from an export of it (`path`).

What they keep and how they build questions is what s1's `collect_data.py` does (and `fix_gpqa.py`, `add_aime.py`); a
docstring says where one differs, and what the paper and the code leave open. `source` is s1's `source_type`, so rules
for AIME, GPQA and MATH find their rows. The order of the sources is the config's, and so is decontamination.

Domains come from a judge in s1, so none of these sources gives one; the subject that some have is in `source`.

`datasets` runs no loading scripts from version 4 on. Where a repository is only a script, give `revision:
refs/convert/parquet`, the Hub's own conversion, or export it and give `path`.
"""
