"""`s1ray doctor`: what would keep a run from succeeding on this machine or cluster, told before the run, in seconds.

Each check is a module with two functions: `look` runs on every node, in one Ray task a node, and brings home what it
saw as plain data; `judge` runs where the command was given and turns that into lines. `nodes` does the asking, within a
time limit, so that a node that does not answer is a line and not a wait. Nothing here imports torch or vllm in the
command's own process.
"""
