# _demo.py: a BERT-like model with random weights reads real text, once with transformers' eager attention
# and once with heed. Not here: attention of a trained model (the command `heed demo`).
import copy
import json
import time
from pathlib import Path

import torch

from heed import Error

TEXT = Path("data/minilm_varlen.safetensors")


def _passages(path: Path) -> list[list[str]]:
    """The word pieces of the passages that a capture keeps beside its tensors."""
    try:
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        tokens = json.loads(header["__metadata__"]["tokens"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Error(f"path is '{path}': it must be a capture with word pieces in its metadata, like "
                    "data/minilm_varlen.safetensors of heed's repository "
                    f"({type(error).__name__}: {error})") from error
    return tokens if isinstance(tokens[0], list) else [tokens]


def _batch(passages):
    """Numbers and the padding mask, (B, longest); 0 is padding."""
    words = {word: n for n, word in enumerate(sorted({w for p in passages for w in p}), start=1)}
    longest = max(map(len, passages))
    ids = torch.zeros(len(passages), longest, dtype=torch.long)
    for row, passage in zip(ids, passages):
        row[:len(passage)] = torch.tensor([words[w] for w in passage])
    return ids, (ids > 0).long(), len(words) + 1


def _timed(model, ids, mask):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        model.zero_grad()
        out = model(ids, attention_mask=mask).last_hidden_state
        (out * mask.unsqueeze(-1)).square().mean().backward()
        times.append(time.perf_counter() - start)
    return out.detach(), sorted(times)[len(times) // 2]


def demo(path: str | Path = TEXT) -> bool:
    """A BERT-like model (6 layers, 12 heads, width 384, random weights) on the repository's real text, a
    padded batch of its passages: heed beside transformers' eager attention, both against float64. Prints
    the verdict.

    Parameters
    ----------
    path : a capture with word pieces in its metadata; the repository's own where it is run from there.

    Returns
    -------
    bool : whether heed's error is that of float32, as eager's is.

    Raises
    ------
    heed.Error where the file is missing or is none.
    """
    passages = _passages(Path(path))
    import transformers

    from ._register import register

    ids, mask, vocabulary = _batch(passages)
    torch.manual_seed(0)
    eager = transformers.BertModel(transformers.BertConfig(
        vocab_size=vocabulary, hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
        intermediate_size=1536, max_position_embeddings=max(512, ids.shape[1]), hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0), add_pooling_layer=False).eval()
    eager.set_attn_implementation("eager")
    with register() as registration:
        ours = copy.deepcopy(eager)
        ours.set_attn_implementation(registration.name)
        got, fast = _timed(ours, ids, mask)
        want, slow = _timed(eager, ids, mask)
        with torch.no_grad():
            exact = copy.deepcopy(eager).double()(ids, attention_mask=mask).last_hidden_state
        real = mask.bool()
        errors = [(x - exact)[real].abs().max().item() for x in (got, want)]
        gradients = max(((a.grad - b.grad).abs().max() / b.grad.abs().max().clamp(min=1e-12)).item()
                        for a, b in zip(ours.parameters(), eager.parameters()) if b.grad.abs().max() > 1e-9)
    good = errors[0] < 4 * errors[1] + 1e-6 and gradients < 1e-3
    lengths = ", ".join(str(len(p)) for p in passages)
    print(f"A BERT-like model with random weights on {len(passages)} passages of real text "
          f"({lengths} tokens, padded):")
    print(f"  {'attention':<10}{'forward + backward':>20}{'largest error of the output':>30}")
    for name, seconds, error in (("eager", slow, errors[1]), ("heed", fast, errors[0])):
        print(f"  {name:<10}{seconds * 1e3:>17.1f} ms{error:>30.1e}")
    print(f"  gradients differ by {gradients:.1e} of the largest of each weight at most")
    print(f"  heed is {'' if good else 'NOT '}as exact as eager attention")
    return good
