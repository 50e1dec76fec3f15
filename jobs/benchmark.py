"""Benchmark a served model, as a Ray job ( is right where the cluster is this machine; elsewhere name shared storage).

Run it with:

    ray job submit --working-dir . -- python jobs/benchmark.py --config jobs/configs/benchmark.miniature.yaml --root "$PWD"
"""

from s1ray.cli import evaluate, job

if __name__ == "__main__":
    job(evaluate)
