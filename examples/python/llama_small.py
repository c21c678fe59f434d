# llama_small.py: a small Llama-like model with random weights, transformers' eager attention against heed:
# logits, gradients and generated tokens. Run: python examples/python/llama_small.py [--length 512]
# Not here: how heed is registered (heed.transformers).
import argparse
import copy
import time

import torch
import transformers

import heed.transformers


def model():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=1000, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=65536, pad_token_id=0, eos_token_id=None)).eval()


def difference(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


def step(m, tokens, mask):
    start = time.perf_counter()
    result = m(tokens, attention_mask=mask, labels=tokens.where(mask.bool(), -100), use_cache=False)
    result.loss.backward()
    return result.logits.detach()[mask.bool()], time.perf_counter() - start


def main(length=512, new=24):
    eager = model()
    ours = copy.deepcopy(eager)
    eager.set_attn_implementation("eager")
    heed.transformers.register()
    ours.set_attn_implementation("heed")

    tokens = torch.randint(2, 1000, (2, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    mask[1, length - length // 4:] = 0  # the second sequence is shorter
    want, slow = step(eager, tokens, mask)
    got, fast = step(ours, tokens, mask)
    logits = difference(got, want)
    gradients = max(difference(a.grad, b.grad) for a, b in zip(ours.parameters(), eager.parameters()))

    prompt, there = tokens[:, :64], torch.ones(2, 64, dtype=torch.long)
    there[1, :16] = 0  # prompts are padded on the left
    made = [m.generate(prompt, attention_mask=there, max_new_tokens=new, do_sample=False, cache_implementation=cache)
            for m in (eager, ours) for cache in ("dynamic", "static")]
    same = all(torch.equal(made[0], other) for other in made[1:])

    print(f"2 sequences of {length} and {length - length // 4} tokens, forward and backward: "
          f"eager {slow:.2f} s, heed {fast:.2f} s")
    print(f"logits:    largest difference {logits:.1e} of the largest logit")
    print(f"gradients: largest difference {gradients:.1e} of the largest gradient of a weight")
    print(f"generated: {new} tokens each, dynamic and static cache, {'the same' if same else 'DIFFERENT'}")
    good = logits < 1e-4 and gradients < 1e-3 and same
    print("equal within tolerance" if good else "NOT equal within tolerance")
    return good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a small Llama-like model, eager attention against heed")
    parser.add_argument("--length", type=int, default=512)
    raise SystemExit(0 if main(parser.parse_args().length) else 1)
