"""Adapters: each gives one framework its memory, in one file, which alone imports that framework."""
