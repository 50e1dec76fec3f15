r"""Fine-tune on traces, as a Ray job.

    ray job submit --working-dir . -- \
        python jobs/train_sft.py --config jobs/configs/train.miniature.yaml --root "$PWD"

Relative paths start from --root: storage that all nodes share; on one machine, the checkout.
"""

from s1ray.cli import job, train

if __name__ == "__main__":
    job(train)
