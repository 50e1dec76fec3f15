"""Collect reasoning traces, as a Ray job ( is right where the cluster is this machine; elsewhere name shared storage).

Run it with:

    ray job submit --working-dir . -- python jobs/generate_traces.py --config jobs/configs/traces.miniature.yaml --root "$PWD"
"""

from s1ray.cli import traces, job

if __name__ == "__main__":
    job(traces)
