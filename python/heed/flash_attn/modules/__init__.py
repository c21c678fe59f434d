"""Modules in the names of flash_attn.modules: multi-head attention."""
