"""Autoscaling of reasoning traffic, simulated: our policy and Ray's own."""
