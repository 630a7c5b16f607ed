"""Trains postcard from nothing: `python -m inference.postcard.training FOLDER`, or `make train`."""
