"""heed.compare: heed beside other programs on this machine. ``python -m heed.compare``.

Times, errors against float64 and memory of heed, PyTorch (as shipped, at its best, its math path), ONNX
Runtime and OpenVINO, whichever are installed; forward, backward, decode, window, ragged batches, and a
training step of a small GPT. Results as a table, JSON, Markdown and plots.
"""
