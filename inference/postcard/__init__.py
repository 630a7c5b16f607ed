"""Postcard: the model that comes with Easel, and all that it is made of.

The service loads the folder `model`, and imports nothing from here.
"""
