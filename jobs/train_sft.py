"""Fine-tune on traces, as a Ray job ( is right where the cluster is this machine; elsewhere name shared storage).

Run it with:

    ray job submit --working-dir . -- python jobs/train_sft.py --config jobs/configs/train.miniature.yaml --root "$PWD"
"""

from s1ray.cli import train, job

if __name__ == "__main__":
    job(train)
