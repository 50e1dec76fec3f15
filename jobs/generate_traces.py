r"""Collect reasoning traces, as a Ray job.

    ray job submit --working-dir . -- \
        python jobs/generate_traces.py --config jobs/configs/traces.miniature.yaml --root "$PWD"

Relative paths start from --root: storage that all nodes share; on one machine, the checkout.
"""

from s1ray.cli import job, traces

if __name__ == "__main__":
    job(traces)
