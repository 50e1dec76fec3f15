"""Fine-tune on traces, as a Ray job. Relative paths start from --root: storage that all nodes share; on one machine, here.

Run it with:

    ray job submit --working-dir . -- \\
        python jobs/train_sft.py --config jobs/configs/train.miniature.yaml --root "$PWD"
"""

from s1ray.cli import job, train

if __name__ == "__main__":
    job(train)
