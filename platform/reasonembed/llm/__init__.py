"""Engines that answer requests, behind one protocol."""
