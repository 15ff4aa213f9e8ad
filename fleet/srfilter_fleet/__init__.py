"""Upscales video files on the machines of a Ray cluster.

The work is that of ``sr video``: a plan divides a file into segments, workers compute them,
and they are joined. Media and plans travel through Ray's object store; every machine has
``sr`` and this package.
"""

__version__ = "0.2.0"
