"""Helpers in the names of flash_attn.utils: the state of a generation."""
