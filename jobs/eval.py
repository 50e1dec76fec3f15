r"""Measure a served model, as a Ray job.

    ray job submit --working-dir . -- \
        python jobs/eval.py --config miniature --root "$PWD"

Relative paths start from --root: storage that all nodes share; on one machine, the checkout.
"""

from s1ray.cli import job

if __name__ == "__main__":
    job("eval")
