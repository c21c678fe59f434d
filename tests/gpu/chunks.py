"""Gradients of one entry and group of heads, by torch on the tensors' own device and by chunks of
queries, so that sequences may be long: in float64 from the definitions (docs/semantics.md), and as the plain
program of verify/plain.h has them, whose error is the measure of 16-bit results. Not here: dropout, f32
tensors (gradients.py judges those)."""
from dataclasses import dataclass

import torch

import calls

CHUNK = 2**24  # pairs at a time: 128 MiB in float64


@dataclass(frozen=True)
class Program:
    """The precision of everything; what results, and with round_p p and ds, are rounded to."""
    real: torch.dtype
    rounding: torch.dtype | None = None
    round_p: bool = False

    def result(self, x):
        return x if self.rounding is None else x.to(self.rounding).to(self.real)

    def factor(self, x):
        return self.result(x) if self.round_p else x


TRUTH = Program(torch.float64)


class Group:
    """The query heads of one kv head of one entry of a Gradients."""

    def __init__(self, gradients, b, kv_head):
        made, cut = gradients.made, gradients.entry(b)
        self.spec, arrays = made.spec, made.arrays
        self.sq, self.sk = made.lengths[b]
        size = self.spec.heads // self.spec.kv_heads
        self.heads = slice(kv_head * size, (kv_head + 1) * size)
        self.k, self.v = cut["k"][:, kv_head], cut["v"][:, kv_head]
        self.q, self.dout = (cut[name][:, self.heads].transpose(0, 1) for name in ("q", "dout"))
        self.dlse = None if cut["dlse"] is None else cut["dlse"][self.heads]
        self.shift = calls.shift_of(self.spec, self.sq, self.sk)
        scale = self.spec.scale
        self.scale = self.spec.dim**-0.5 if scale is None else scale
        self.slopes, self.sinks = (arrays[name][self.heads] if name in arrays else None
                                   for name in ("alibi_slopes", "sinks"))
        spread = lambda x: x[b if x.shape[0] > 1 else 0, self.heads if x.shape[1] > 1 else slice(0, 1)]
        self.bias, self.mask, self.block_map = (spread(arrays[name]) if name in arrays else None
                                                for name in ("bias", "mask", "block_map"))

    def visible(self, rows):
        """(G or 1, R, Sk): who sees whom."""
        spec, device = self.spec, self.q.device
        i, j = (rows + self.shift)[:, None], torch.arange(self.sk, device=device)
        left, right = spec.window[0], 0 if spec.causal else spec.window[1]
        seen = torch.ones(len(rows), self.sk, dtype=torch.bool, device=device)
        if left >= 0:
            seen &= j - i >= -left
        if right >= 0:
            seen &= j - i <= right
        if spec.chunk:
            seen &= i.div(spec.chunk, rounding_mode="floor") == j.div(spec.chunk, rounding_mode="floor")
        seen = (seen | (j < spec.prefix))[None]
        if self.mask is not None:
            seen = seen & self.mask[:, rows, :self.sk].bool()
        if self.block_map is not None:
            blocks = self.block_map[:, rows // spec.block_map[0]]
            seen = seen & blocks[:, :, torch.arange(self.sk, device=device) // spec.block_map[1]].bool()
        return seen

    def scores(self, rows, real):
        """(scores (G, R, Sk), the slope of a softcap or None)."""
        spec = self.spec
        s = self.scale * (self.q[:, rows].to(real) @ self.k.to(real).T)
        slope = None
        if spec.softcap:
            tanh = torch.tanh(s / spec.softcap)
            s, slope = spec.softcap * tanh, 1 - tanh * tanh
        if self.slopes is not None:
            distance = ((rows + self.shift)[:, None] - torch.arange(self.sk, device=rows.device)).abs()
            s = s - self.slopes.to(real)[:, None, None] * distance
        if self.bias is not None:
            s = s + self.bias[:, rows if self.bias.shape[1] > 1 else slice(0, 1), :self.sk].to(real)
        return s.masked_fill(~self.visible(rows), -torch.inf), slope

    def pairs(self, rows, program):
        """p, ds before and behind the softcap, and each row's part of dsinks."""
        real = program.real
        s, slope = self.scores(rows, real)
        v, dout = self.v.to(real), self.dout[:, rows].to(real)
        sinks = torch.full((1, 1), -torch.inf, dtype=real, device=s.device)
        if self.sinks is not None:
            sinks = self.sinks.to(real)[:, None]
        m = torch.maximum(s.amax(-1), sinks)
        m = m.masked_fill(m == -torch.inf, 0)
        e = torch.exp(s - m[..., None])
        l = e.sum(-1) + torch.exp(sinks - m)
        o = program.factor(e) @ v / l.masked_fill(l == 0, 1)[..., None]
        shift = (program.result(o) * dout).sum(-1)  # delta - dlse
        if self.dlse is not None:
            shift = shift - self.dlse[:, rows].to(real)
        lse = (m + torch.log(l)).masked_fill(l == 0, torch.inf)
        p = torch.exp(s - lse[..., None])
        ds = p * (dout @ v.T - shift[..., None])
        return p, ds, ds if slope is None else ds * slope, -torch.exp(sinks - lse) * shift


def gradients_of(group, program):
    """dq (G, Sq, D), dk and dv (Sk, D or Dv), dbias (G, Sq or 1, Sk), and of dsinks what each row adds (G, Sq):
    of this entry alone."""
    real, full = program.real, group.bias is not None and group.bias.shape[1] > 1
    k, rows, sums = group.k.to(real), {"dq": [], "dbias": [], "dsinks": []}, {}
    step = max(1, CHUNK // (len(group.q) * group.sk))
    for chunk in torch.arange(group.sq, device=k.device).split(step):
        p, ds, dx, dsinks = group.pairs(chunk, program)
        q, dout = group.q[:, chunk].to(real), group.dout[:, chunk].to(real)
        p, dx = program.factor(p), program.factor(dx)
        rows["dq"].append(dx @ k * group.scale)
        rows["dsinks"].append(dsinks)
        parts = {"dk": (dx.transpose(1, 2) @ q).sum(0) * group.scale, "dv": (p.transpose(1, 2) @ dout).sum(0)}
        if full:
            rows["dbias"].append(ds)
        else:
            parts["dbias"] = ds.sum(1, keepdim=True)
        for name, part in parts.items():
            sums[name] = sums[name] + part if name in sums else part
    return {**sums, **{name: torch.cat(parts, 1) for name, parts in rows.items() if parts}}


def ulp(x, dtype):
    """Of the values in float64, the steps of a dtype around them."""
    info = torch.finfo(dtype)
    exponent = torch.frexp(x)[1] - 1
    least = torch.frexp(torch.tensor(info.tiny, dtype=torch.float64))[1].item() - 1
    return info.eps * torch.ldexp(torch.ones_like(x), exponent.clamp(min=least))


def judge(gradients, b, kv_head):
    """(right, words) of the gradients of an entry and a kv head. The bound is twice the largest error of the
    plain program, of p and ds rounded or not whichever has the larger one, and an ulp."""
    group, results = Group(gradients, b, kv_head), gradients.results
    want = gradients_of(group, TRUTH)
    dtype = gradients.made.q.dtype
    plain = [gradients_of(group, Program(torch.float32, dtype, round_p)) for round_p in (True, False)]
    cut = gradients.entry(b)
    got = {"dq": cut["dq"][:, group.heads].transpose(0, 1), "dk": cut["dk"][:, kv_head], "dv": cut["dv"][:, kv_head]}
    if gradients.made.spec.batch == 1:  # these are sums over the batch
        got.update({name: results[name][index] for name, index in (("dbias", (0, group.heads)), ("dsinks", group.heads))
                    if name in results})
    worst = (0.0, "nothing")
    for name, values in got.items():
        true = want[name]
        errors = [(true - p[name].to(values.dtype).double()).abs() for p in plain]
        if name == "dsinks":  # too few to have the largest error among them: what the rows add has it
            true, errors = true.sum(-1), [e.sum(-1) for e in errors]
        error = max(e.max().item() for e in errors)
        ratio = (values.double() - true).abs() / (2 * error + ulp(true, values.dtype))
        worst = max(worst, (ratio.nan_to_num(nan=torch.inf).max().item(), name))
    return worst[0] <= 1, f"{worst[1]}: the worst error is {worst[0]:.2f} of its bound"
