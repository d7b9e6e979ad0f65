"""Thin adapters to the kernel. No decisions."""
