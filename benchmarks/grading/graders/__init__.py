"""The graders of the benchmark, one script each: plain files that run in an environment of their own."""
