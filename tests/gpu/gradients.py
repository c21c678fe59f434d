"""Backward calls on torch tensors: run by libheed_gpu.so on what its forward gave, and whole calls judged
against float64 on the host, with the bounds of the tests. Not here: calls that are too long for that
(chunks.py), which calls (random_calls.py)."""
from dataclasses import replace

import torch

import calls


def _like(tensor, layout, dtype):
    """A tensor of this shape whose rows lie as a layout says; it holds random numbers."""
    if tensor.dim() == 3:  # ragged
        return calls.random_rows((1, *tensor.shape), "bshd", dtype, tensor.device)[0]
    return calls.random_rows(tensor.shape, layout, dtype, tensor.device)


def _room(made):
    """{"dq": tensor, ...}: what the spec's backward writes."""
    spec, q, k, v = made.spec, made.q, made.k, made.v
    dtype = torch.float32 if spec.f32_grads else q.dtype
    if spec.layout == "packed":
        shape = (*q.shape[:2], 3 * spec.heads, spec.dim)
        three = calls.random_rows(shape, "bshd", dtype, q.device).chunk(3, dim=2)
    else:
        three = [_like(tensor, spec.layout, dtype) for tensor in (q, k, v)]
    room = dict(zip(("dq", "dk", "dv"), three))
    for name, wanted, of in (("dbias", spec.dbias, "bias"), ("dsinks", spec.dsinks, "sinks")):
        if wanted and of in made.arrays:
            room[name] = torch.empty(made.arrays[of].shape, dtype=torch.float32, device=q.device)
    return room


def fields(made, dout, results):
    """The problem's fields of request.h, without pointers."""
    rows = {"dout": dout, **{name: results[name] for name in ("dq", "dk", "dv")}}
    return {**calls.fields(made), "op": "backward", "dlse": made.spec.dlse, "f32_grads": made.spec.f32_grads,
            "want_dbias": "dbias" in results, "want_dsinks": "dsinks" in results, **calls.strides(rows)}


class Gradients(calls.Planned):
    """The backward of one Made; its forward is run here. `given`: (dout, dlse) in place of random ones."""

    def __init__(self, engine, made, backend, given=None):
        self.made, spec = made, made.spec
        self.forward = calls.Runner(engine, made, backend).run()
        torch.manual_seed(spec.seed + 1)
        o, lse = self.forward.o, self.forward.lse
        self.dout, self.dlse = given or (_like(o, spec.layout, o.dtype),
                                         torch.randn_like(lse) if spec.dlse else None)
        results = _room(made)
        super().__init__(engine, backend, fields(made, self.dout, results), self.inputs(), results)

    def inputs(self):
        made = self.made
        return {"q": made.q, "k": made.k, "v": made.v, "o": self.forward.o, "lse": self.forward.lse,
                "dout": self.dout, **({} if self.dlse is None else {"dlse": self.dlse}), **made.arrays}

    def entry(self, b):
        """Of one entry, dense: q, dout, dq (Sq, H, D or Dv); k, v, dk, dv; dlse (H, Sq) or None."""
        made = self.made
        sq, sk = made.lengths[b]
        rows, keys = made.slices(b) if made.ragged() else ((b, slice(sq)), (b, slice(sk)))
        cut = {name: tensor[keys if name in ("k", "v", "dk", "dv") else rows] for name, tensor in
               {"q": made.q, "k": made.k, "v": made.v, "dout": self.dout, **self.results}.items()
               if name not in ("dbias", "dsinks")}
        dlse = self.dlse
        cut["dlse"] = None if dlse is None else dlse[:, rows] if made.ragged() else dlse[b]
        return cut

    def alone(self, engine, b, backend):
        """Entry b as a call of its own, in the same memory."""
        cut, dlse = self.entry(b), None
        if cut["dlse"] is not None:
            dlse = cut["dlse"].contiguous() if self.made.ragged() else cut["dlse"][None]
        dout = cut["dout"] if self.made.ragged() else cut["dout"][None]
        return Gradients(engine, calls.alone(self.made, b), backend, (dout, dlse))


def judge(engine, gradients):
    """(right, words) of a whole call. float64 is quadratic in time: a million pairs take seconds."""
    host = lambda tensors: {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    made = gradients.made
    inputs, results = host(gradients.inputs()), host(gradients.results)
    here = replace(made, q=inputs["q"], k=inputs["k"], v=inputs["v"],
                   arrays={name: inputs[name] for name in made.arrays})
    return engine.judge({**fields(here, inputs["dout"], results),
                         **{f"at.{name}": tensor.data_ptr() for name, tensor in {**inputs, **results}.items()}})
