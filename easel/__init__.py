"""Easel: self-hosted text-to-image for backend teams.

This package is what the gateway, the workers and their clients share; it imports neither service.
"""

__version__ = "0.1.0"
