"""Autoscaling of reasoning traffic, simulated: s1ray's policy and Ray's default."""
