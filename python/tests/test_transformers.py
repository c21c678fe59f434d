# test_transformers.py: whole models with attn_implementation="heed" against the same models in float64 on
# a plain attention: outputs, gradients, generated tokens. (transformers' own eager attention rounds its
# softmax to float32 in every dtype.) Not here: the attention function alone (test_transformers_call.py),
# masks (test_transformers_masks.py).
import copy
import os

import pytest

torch = pytest.importorskip("torch")
os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", minversion="5.0")

import heed.transformers  # noqa: E402
from heed.transformers import _masks  # noqa: E402

TOKENS = 61
SMALL = dict(vocab_size=TOKENS, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=8, max_position_embeddings=4096, attention_dropout=0.0,
             pad_token_id=0, bos_token_id=1, eos_token_id=None)


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL))


def qwen():
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SMALL))


def mistral(**changes):
    return transformers.MistralForCausalLM(
        transformers.MistralConfig(**SMALL | {"sliding_window": 6} | changes))


def one_layer():
    return mistral(num_hidden_layers=1)


def gemma2():
    return transformers.Gemma2ForCausalLM(transformers.Gemma2Config(
        **SMALL, sliding_window=5, attn_logit_softcapping=2.0, final_logit_softcapping=None,
        query_pre_attn_scalar=8))


def gpt_oss():
    model = transformers.GptOssForCausalLM(transformers.GptOssConfig(
        **SMALL, sliding_window=7, num_local_experts=2, num_experts_per_tok=2, rope_parameters={
            "rope_type": "default", "rope_theta": 10000.0}))
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.sinks)
    return model


def plain(module, query, key, value, mask, dropout=0.0, scaling=None, is_causal=None, softcap=None, s_aux=None,
          position_bias=None, **kwargs):
    """Attention in the dtype it is given, every score in memory; rows without keys give 0."""
    groups = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(groups, dim=1) for t in (key, value))
    s = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        s = softcap * torch.tanh(s / softcap)
    if position_bias is not None:
        s = s + position_bias
    if mask is None and query.shape[2] > 1 and (module.is_causal if is_causal is None else is_causal):
        mask = torch.ones(s.shape[-2:], dtype=torch.bool).tril()  # top left
    if mask is not None:
        s = s.masked_fill(~mask, -float("inf"))
    columns = [s]
    if s_aux is not None:
        columns.append(s_aux.to(s.dtype).view(1, -1, 1, 1).expand(*s.shape[:3], 1))
    p = torch.cat(columns, -1).softmax(-1)[..., :s.shape[-1]]
    p = torch.where(torch.isneginf(s), 0.0, p)
    return (p @ value).transpose(1, 2).contiguous(), p


def register_plain():
    from transformers.masking_utils import sdpa_mask
    transformers.AttentionInterface.register("plain", plain)
    transformers.AttentionMaskInterface.register("plain", sdpa_mask)


@pytest.fixture(scope="module", autouse=True)
def registered():
    register_plain()
    with heed.transformers.register():
        yield


@pytest.fixture(params=["mask", "pattern"])
def long(request, monkeypatch):
    """As if the sequences were long enough that masks are not made."""
    monkeypatch.setattr(_masks, "SMALL", 0 if request.param == "pattern" else 1 << 20)


def pair(make, seed=0):
    """The model in float32 with heed, and in float64 with the plain attention."""
    torch.manual_seed(seed)
    model = make()
    for name, weight in model.named_parameters():  # so that attention is far from uniform
        if any(part in name for part in ("q_proj.weight", "k_proj.weight", ".q.weight", ".k.weight",
                                         "query.weight", "key.weight")):
            weight.data.mul_(4)
    if make is gpt_oss:
        model.set_experts_implementation("eager")  # its others have no float64
    exact = copy.deepcopy(model).double().eval()
    exact.set_attn_implementation("plain")
    model.eval().set_attn_implementation("heed")
    assert model.config._attn_implementation == "heed"
    return model, exact


def close(got, want, tolerance=2e-5):
    assert got.shape == want.shape and want.isfinite().all()
    error = (got.double() - want).abs().max() / want.abs().max().clamp(min=1e-3)
    assert error < tolerance, f"largest relative error {error:.2e}"


def words(batch, length, seed=1):
    return torch.randint(2, TOKENS, (batch, length), generator=torch.Generator().manual_seed(seed))


def gradients_agree(model, exact, tolerance=2e-4):
    seen = 0
    for (name, got), want in zip(model.named_parameters(), exact.parameters()):
        assert (got.grad is None) == (want.grad is None), name
        if got.grad is not None and want.grad.abs().max() > 1e-9:
            close(got.grad, want.grad, tolerance)
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("make", [llama, gemma2, gpt_oss])
def test_logits_and_gradients(make):
    model, exact = pair(make)
    x = words(2, 19)
    got, want = (m(x, labels=x, use_cache=False) for m in (model, exact))
    close(got.logits, want.logits)
    got.loss.backward(), want.loss.backward()
    gradients_agree(model, exact)


@pytest.mark.parametrize("make, side", [
    (llama, "left"), (llama, "right"), (mistral, "left"), (gemma2, "right"), (gpt_oss, "left")])
def test_padding(make, side, long):
    model, exact = pair(make)
    x, mask = words(3, 17), torch.ones(3, 17, dtype=torch.long)
    for b, hidden in enumerate((0, 5, 11)):
        mask[b, slice(0, hidden) if side == "left" else slice(17 - hidden, 17)] = 0
    real = mask.bool()
    got, want = (m(x, attention_mask=mask, use_cache=False).logits[real] for m in (model, exact))
    close(got, want)
    weight = torch.randn(want.shape, generator=torch.Generator().manual_seed(3))
    (got * weight).sum().backward(), (want * weight.double()).sum().backward()
    gradients_agree(model, exact)


@pytest.mark.parametrize("make", [llama, qwen, mistral, gemma2])
def test_packed(make, long):
    """Sequences in one row, told apart by position_ids: each as if it stood alone. (transformers' GPT-OSS does not
    ask for such masks.)"""
    model, exact = pair(make)
    lengths = (7, 1, 12)
    x = words(1, sum(lengths))
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    packed = model(x, position_ids=positions, use_cache=False).logits
    alone = [exact(part, use_cache=False).logits for part in x.split(lengths, dim=1)]
    close(packed, torch.cat(alone, dim=1))


@pytest.mark.parametrize("make, options", [
    (llama, {}), (llama, {"cache_implementation": "static"}), (llama, {"num_beams": 2}),
    (mistral, {"prefill_chunk_size": 5}), (mistral, {"cache_implementation": "static"}), (gpt_oss, {})])
def test_generate(make, options, monkeypatch):
    if make is mistral:
        monkeypatch.setattr(_masks, "SMALL", 0)
    model, exact = pair(make)
    x, mask = words(2, 13), torch.ones(2, 13, dtype=torch.long)
    mask[1, :5] = 0
    for given in ({}, {"attention_mask": mask}):
        got, want = (m.generate(x, max_new_tokens=4, min_new_tokens=4, do_sample=False, **given, **options,
                                return_dict_in_generate=True, output_logits=True) for m in (model, exact))
        assert torch.equal(got.sequences, want.sequences)
        for a, b in zip(got.logits, want.logits):
            close(a, b)


def t5():
    return transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=TOKENS, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0,
        decoder_start_token_id=1, pad_token_id=0, eos_token_id=None))


def test_t5_position_bias():
    model, exact = pair(t5)
    x, y, mask = words(2, 15), words(2, 9, 2), torch.ones(2, 15, dtype=torch.long)
    mask[0, 11:] = 0
    got, want = (m(x, labels=y, attention_mask=mask) for m in (model, exact))
    close(got.logits, want.logits)
    got.loss.backward(), want.loss.backward()
    gradients_agree(model, exact)
    biases = [p for n, p in model.named_parameters() if "relative_attention_bias" in n]
    assert len(biases) == 2 and all(p.grad.abs().max() > 0 for p in biases)
    for options in ({}, {"cache_implementation": "static"}):
        a, b = (m.generate(x, attention_mask=mask, max_new_tokens=7, do_sample=False, **options)
                for m in (model, exact))
        assert torch.equal(a, b)


def bert():
    return transformers.BertModel(transformers.BertConfig(
        vocab_size=TOKENS, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))


def test_bert_padding():
    model, exact = pair(bert)
    x, mask = words(3, 14), torch.ones(3, 14, dtype=torch.long)
    mask[1, 9:] = 0
    mask[2, 1:] = 0
    for given in ({}, {"attention_mask": mask}):
        real = given.get("attention_mask", torch.ones_like(mask)).bool()
        got, want = (m(x, **given).last_hidden_state[real] for m in (model, exact))
        close(got, want)
    weight = torch.randn(want.shape, generator=torch.Generator().manual_seed(3))
    (got * weight).sum().backward(), (want * weight.double()).sum().backward()
    gradients_agree(model, exact)


def test_probabilities_on_request():
    model, exact = pair(llama)
    x = words(2, 11)
    got, want = (m(x, output_attentions=True).attentions for m in (model, exact))
    assert len(got) == 2
    for a, b in zip(got, want):
        close(a, b)


def test_compiled():
    """The whole model in one graph, lengths that change."""
    model, exact = pair(one_layer)
    whole = torch.compile(model, fullgraph=True, backend="aot_eager")
    for length in (11, 14):
        x = words(2, length)
        got, want = (m(x, labels=x, use_cache=False) for m in (whole, exact))
        close(got.logits, want.logits)
        got.loss.backward(), want.loss.backward()
    gradients_agree(model, exact)


@pytest.mark.slow
def test_compiled_layers(monkeypatch):
    """The layers each by themselves, under masks that are not made."""
    monkeypatch.setattr(_masks, "SMALL", 0)
    model, exact = pair(mistral)
    for layer in model.model.layers:
        layer.compile(backend="aot_eager")
    x = words(2, 13)
    for hidden in (0, 4, 9):
        for side in (slice(0, hidden), slice(13 - hidden, 13)):
            mask = torch.ones(2, 13, dtype=torch.long)
            mask[1, side] = 0
            got, want = (m(x, attention_mask=mask, use_cache=False).logits for m in (model, exact))
            close(got[mask.bool()], want[mask.bool()])


@pytest.mark.slow
def test_continuous_batching_under_the_name_sdpa():
    """transformers lets no other name in there."""
    model, exact = pair(llama)
    prompts = [words(1, n, n)[0].tolist() for n in (5, 16)]
    with heed.transformers.register("sdpa"):
        model.set_attn_implementation("sdpa")
        options = transformers.GenerationConfig(max_new_tokens=4, do_sample=False, eos_token_id=-1,
                                                pad_token_id=0)
        made = model.generate_batch(inputs=prompts, generation_config=options, progress_bar=False)
    for prompt, result in zip(prompts, sorted(made.values(), key=lambda r: len(r.prompt_ids))):
        want = exact.generate(torch.tensor([prompt]), max_new_tokens=4, min_new_tokens=4, do_sample=False)
        assert list(result.generated_tokens) == want[0, len(prompt):].tolist()
