"""Postcard: a small world that is painted and put into words, and a model that is trained on it.

The service imports nothing from here.
"""
