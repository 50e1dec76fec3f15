r"""Run several stages in order, or a matrix of them, as a Ray job.

    ray job submit --working-dir . -- \
        python jobs/run.py ablation-data --output "$PWD/runs/miniature/ablation-data"

The output lies on storage that all nodes share; on one machine, in the checkout.
"""

from s1ray.cli import job

if __name__ == "__main__":
    job("run")
