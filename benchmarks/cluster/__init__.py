"""What the stages would take on a large cluster, simulated from unit costs that were measured on a small one."""
