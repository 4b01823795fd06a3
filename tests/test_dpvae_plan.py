"The plan of a DP-VAE counts its activations: what autograd really keeps."
import pytest, torch
from torch.autograd.graph import saved_tensors_hooks

from align4gen import cost
from align4gen.dpvae import PatchDiscriminator
from align4gen.train_dpvae import DPCore, align4gen_train_dpvae, build_dpvae, ready_dpvae


def kept(core, x, half):
    "Bytes of the forward pass, each storage once, without the weights."
    own = {p.untyped_storage()._cdata for p in [*core.parameters(), *core.buffers()]}
    seen = {}
    def pack(t):
        s = t.untyped_storage()
        seen[s._cdata] = s
        return t
    with saved_tensors_hooks(pack, lambda t: t), torch.autocast('cpu', torch.bfloat16, half): core(x, x)
    return sum(s.nbytes() for k, s in seen.items() if k not in own)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_activations(precision):
    c = ready_dpvae(batch=1, precision=precision, lpips=0.)
    core = DPCore(build_dpvae(c), critic=PatchDiscriminator(c.critic_width, c.critic_layers), lpips=0.)
    real = kept(core, torch.rand(1, 8, 3, 16, 16), precision == 'bf16')
    assert .95*real < cost._dpvae_kept(c, cost._planned_dpvae(c)) < 1.15*real


def test_checkpointing_and_fewer_clips_need_less(capsys):
    few = ready_dpvae('dpvae-sd3', files=False, precision='bf16')
    more = ready_dpvae('dpvae-sd3', files=False, precision='bf16', checkpointing=False)
    model = cost._planned_dpvae(few)
    assert cost._dpvae_kept(few, model) < .4*cost._dpvae_kept(more, model)
    align4gen_train_dpvae(['--preset', 'dpvae-sd3', '--dry_run', '--gpus', '8', '--device', 'h100'])
    out = ' '.join(capsys.readouterr().out.split())
    assert 'of weights and optimiser, the rest activations of 1 clip at a time' in out
