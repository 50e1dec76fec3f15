r"""Benchmark a served model, as a Ray job.

    ray job submit --working-dir . -- \
        python jobs/benchmark.py --config jobs/configs/benchmark.miniature.yaml --root "$PWD"

Relative paths start from --root: storage that all nodes share; on one machine, the checkout.
"""

from s1ray.cli import evaluate, job

if __name__ == "__main__":
    job(evaluate)
