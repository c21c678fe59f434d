"""Layers in the names of flash_attn.layers: rotary embedding."""
