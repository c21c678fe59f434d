"""Random calls, forward and backward, over all options: which they are, and what must hold of each:
right beside float64, the same bits in a second run and for an entry alone. Not here: how a call is made and
judged (calls.py, gradients.py, chunks.py)."""
import random
import time
from concurrent.futures import ThreadPoolExecutor

import torch

import calls
import chunks
import gradients
from engine import Failed

LAYOUTS = ("bshd", "bhsd", "padded", "packed", "ragged", "ragged")
CACHED = ("paged", "paged", "cache")


def dtypes(device):
    """Those that the device multiplies: Turing has no bf16, and the backend says so (tests/cuda)."""
    turing = device == "cuda" and torch.cuda.get_device_capability() < (8, 0)
    return ("f16", "f32") if turing else ("bf16", "f16", "f32")


def specs(count, most, seed, types, backward=False):
    """Calls over all options, up to `most` queries and keys."""
    rng = random.Random(seed)
    # What takes memory for each pair, or for each row of each head, stays below a gigabyte.
    long = most > 8192
    for n in range(count):
        some = lambda *values: rng.choice(values)
        layout = some(*LAYOUTS, *(() if backward else CACHED))
        cached = layout in CACHED
        kv_heads = some(1, 2) if long else some(1, 2, 4)
        heads = kv_heads * (some(1, 2, 4) if long else some(1, 1, 2, 4, 8))
        sk = rng.randint(most // (4 if long else 8), most)
        sq = sk if layout == "packed" else some(1, rng.randint(1, 9), sk, rng.randint(1, most)) if cached \
            else some(sk, rng.randint(1, most))
        dim = some(64, 128, 128, 256, 8, 40, 72, 96, 192, rng.randint(1, 256))
        if layout == "packed":
            heads = kv_heads
        plain = n % 4 == 0  # the kernels without options, too
        window = (-1, -1) if plain or rng.random() < 0.6 else (rng.randint(0, sk), some(-1, 0, rng.randint(0, sk)))
        align = some("bottom_right", "top_left", "offset")
        batch, pairs = rng.randint(1, 2 if long else 3), sq * sk
        yield calls.Spec(
            sq=sq, sk=sk, heads=heads, kv_heads=kv_heads, dim=dim, dtype=some(*types),
            dim_v=dim if layout == "packed" else some(dim, dim, dim, rng.randint(1, 256)), batch=batch,
            layout=layout, causal=window[1] < 0 and rng.random() < 0.5, window=window, align=align,
            offset=rng.randint(-9, sk) if align == "offset" else 0,
            prefix=0 if plain else some(0, 0, 0, rng.randint(1, 99)),
            chunk=0 if plain else some(0, 0, 0, rng.randint(64, 2 * most)),
            scale=None if plain else some(None, None, 0.1, -0.05), softcap=0.0 if plain else some(0.0, 0.0, 20.0),
            alibi=not plain and rng.random() < 0.3,
            bias="" if plain or cached else some("", "", "full" if 4 * heads * pairs < 2**30 else "keys", "keys"),
            mask=not plain and not cached and batch * pairs < 2**28 and rng.random() < 0.25,
            block_map=() if plain or cached or rng.random() < 0.7 else some((64, 64), (128, 16), (100, 52)),
            sinks=not plain and rng.random() < 0.3, key_lengths=layout in ("bshd", "bhsd") and rng.random() < 0.4,
            page=some(1, 16, 64, 256, 7), seed=seed + n, dlse=rng.random() < 0.5, dbias=rng.random() < 0.7,
            dsinks=rng.random() < 0.7, f32_grads=rng.random() < 0.3)


def all_right(jobs):
    """Raises with the words of the first one that is wrong. (The library judges without Python's lock.)"""
    with ThreadPoolExecutor(len(jobs)) as pool:
        judged = list(pool.map(lambda job: job[1](), jobs))
    for (name, _), (right, words) in zip(jobs, judged):
        if not right:
            raise RuntimeError(f"{name}: {words}")


def check_forward(engine, spec, device, backend, rng):
    made = calls.make(spec, device)
    runner = calls.Runner(engine, made, backend)
    if not runner.run_twice():
        raise RuntimeError("a second run gave other bits")
    jobs = []
    count = max(2, min(16, 2**17 // spec.sk))  # so many keys a row cost float64 seconds
    for b in sorted({0, spec.batch - 1}):
        one = calls.Runner(engine, calls.alone(made, b), backend)
        one.poison()
        one.run()
        if not all(calls.same(*both) for both in zip(one.entry(0)[3:], runner.entry(b)[3:])):
            raise RuntimeError(f"entry {b} alone has other bits than beside its neighbours")
        sq = made.lengths[b][0]
        for first in sorted({0, max(0, sq - count), rng.randrange(sq)}):
            kv_head = rng.randrange(spec.kv_heads)
            jobs.append((f"queries from {first} of entry {b}, kv head {kv_head}",
                         lambda b=b, first=first, kv_head=kv_head:
                         calls.judge(engine, runner, b, first, count, kv_head)))
    all_right(jobs)


def check_backward(engine, spec, device, backend, rng, whole):
    """Judged `whole` by the tests' bounds, or by a kv head of every entry."""
    made = calls.make(spec, device)
    runner = gradients.Gradients(engine, made, backend)
    if not runner.run_twice():
        raise RuntimeError("a second run gave other bits")
    for b in sorted({0, spec.batch - 1}):
        one = runner.alone(engine, b, backend)
        one.poison()
        one.run()
        own, beside = one.entry(0), runner.entry(b)
        for name in ("dq", "dk", "dv"):
            if not calls.same(own[name], beside[name]):
                raise RuntimeError(f"{name} of entry {b} alone has other bits than beside its neighbours")
    if whole:
        all_right([("the call", lambda: gradients.judge(engine, runner))])
        return
    for b in range(spec.batch):  # one after the other: they share the device's memory
        kv_head = rng.randrange(spec.kv_heads)
        all_right([(f"entry {b}, kv head {kv_head}", lambda b=b, at=kv_head: chunks.judge(runner, b, at))])


def run(check, all_specs, seconds):
    """Checks one after the other, for so long; the number that was checked. Raises with what is wrong."""
    end, done, refused, wrong, late, large = time.monotonic() + seconds, 0, {}, [], 0, 0
    for spec in all_specs:
        if time.monotonic() >= end:
            late += 1
            continue
        try:
            check(spec)
            done += 1
        except Failed as error:
            refused[str(error)] = refused.get(str(error), 0) + 1
        except torch.cuda.OutOfMemoryError:
            large += 1
            torch.cuda.empty_cache()
        except RuntimeError as error:
            wrong.append(f"{error}: {spec}")
            if len(wrong) == 5:
                break
    if wrong or refused or not done:
        raise RuntimeError("\n        ".join([*wrong, *(f"{n} times: {words}" for words, n in refused.items())])
                           or f"none was done in {seconds} s, {large} did not fit the memory")
    return (f"{done} calls" + (f" in {seconds} s, {late} not begun," if late else "")
            + (f" {large} larger than this GPU's memory," if large else ""))


def forward(engine, device, backend, count, most, seed, seconds=100):
    rng = random.Random(seed)
    done = run(lambda spec: check_forward(engine, spec, device, backend, rng),
               specs(count, most, seed, dtypes(device)), seconds)
    return f"{done} of up to {most} queries and keys, each twice and its entries alone"


def backward(engine, device, backend, count, most, seed, seconds=100):
    """Above 256 keys, where float64 takes too long on the host, of 16-bit types."""
    rng = random.Random(seed)
    whole = most <= 256
    types = [t for t in dtypes(device) if whole or t != "f32"]
    done = run(lambda spec: check_backward(engine, spec, device, backend, rng, whole),
               specs(count, most, seed, types, backward=True), seconds)
    return f"{done} of up to {most} queries and keys, each twice and its entries alone"
