"""Measurements of the product on models that are made at run time; each is run as a module."""
