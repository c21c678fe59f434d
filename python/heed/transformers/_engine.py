# _engine.py: heed.attention with errors in transformers' words, and heed.decode in those of flash-attn as
# transformers calls it. Not here: the functions that transformers calls.
import heed
from heed._words import FLASH_ATTN_SINKS, TRANSFORMERS, spoken

attention = spoken(TRANSFORMERS)(heed.attention)
flash_attention, flash_decode = spoken(FLASH_ATTN_SINKS)(heed.attention), spoken(FLASH_ATTN_SINKS)(heed.decode)
