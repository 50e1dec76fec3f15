"""What all tests share: one thread for each process, because the models are tiny and several processes run at once."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
