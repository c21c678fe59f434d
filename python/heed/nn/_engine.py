# nn/_engine.py: heed.attention and heed.decode with errors in the words of the modules. Not here: the modules.
import heed

from .._words import NN, spoken

attention, decode = spoken(NN)(heed.attention), spoken(NN)(heed.decode)
