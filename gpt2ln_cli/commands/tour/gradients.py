"""How much the loss turns on what enters each block, with LayerNorm and with a fixed sigma in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gpt2ln_cli.commands.ablate.replacements import Place, place_of
from gpt2ln_cli.commands.tour.record import BlockGradient, Gradients
from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.model import Model, head_weight
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.instrument import gradients, watch
from gpt2ln_cli.model.stand_in import Forward
from gpt2ln_cli.sites import Site, all_sites

# Contexts of so many tokens, at most so many of them: one at a time, since what a gradient needs is kept of all layers.
SPAN, CONTEXTS = 64, 14


def gradients_at_blocks(model: Model, token_ids: Sequence[int]) -> Gradients:
    """Differentiate the loss by the input of each block, with the model as it is and with a fixed sigma everywhere.

    Args:
        model: the model.
        token_ids: of a text, which is cut into contexts.

    Raises:
        CheckpointError: the model has no LM head.
    """
    body, head = model.body, head_weight(model)
    span = min(SPAN, body.config.n_positions, len(token_ids))
    whole = range(0, len(token_ids) - span + 1, span)[:CONTEXTS]
    contexts = [list(token_ids[start : start + span]) for start in whole]
    sites = all_sites(body.config.n_layer)
    inputs = [site for site in sites if site.kind == "ln_1"]
    sigmas: dict[Site, list[Floats]] = {site: [] for site in sites}
    for ids in contexts:
        watch(body, Batch.of([ids]), sites, lambda passage: sigmas[passage.site].append(passage.x.std(axis=1)))
    fixed = {
        site: _fixed_sigma(place_of(body, site, np.concatenate(sigma), [span] * len(contexts)))
        for site, sigma in sigmas.items()
    }
    real, replaced = (_norms(model, contexts, inputs, head, replace) for replace in ({}, fixed))
    return Gradients(
        contexts=len(contexts),
        tokens=span,
        losses=real[0].tolist(),
        blocks=[
            BlockGradient(
                site=site.name,
                real=float(_middle(real[1][:, place])),
                fixed_sigma=float(_middle(replaced[1][:, place])),
                greater=int((replaced[1][:, place] > real[1][:, place]).sum()),
            )
            for place, site in enumerate(inputs)
        ],
    )


def _norms(
    model: Model,
    contexts: Sequence[Sequence[int]],
    sites: Sequence[Site],
    head: Tensor,
    replace: Mapping[Site, Forward],
) -> tuple[Floats, Floats]:
    """Each context's mean loss, and the norm of its gradient at each site, (contexts, sites)."""
    losses, norms = [], []
    for ids in contexts:
        targets = torch.tensor(ids[1:], device=head.device)

        def loss(hidden: Tensor, targets: Tensor = targets) -> Tensor:
            logits = (hidden[0, :-1] @ head.T).float()
            # The sum, whose gradient is so much farther from the least number of half precision.
            return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")

        value, found = gradients(model.body, Batch.of([ids]), sites, loss, replace)
        losses.append(value / len(targets))
        norms.append([float(torch.linalg.vector_norm(found[site].double())) / len(targets) for site in sites])
    return np.array(losses), np.array(norms)


def _fixed_sigma(place: Place) -> Forward:
    """``ablate``'s replacement of that name for one context, as something that can be differentiated."""

    def forward(x: Tensor) -> Tensor:
        sigma = torch.full((x.shape[1], 1), place.sigma_rest)
        sigma[0] = place.sigma_first
        gain, bias = (torch.as_tensor(one, dtype=torch.float32) for one in (place.gain, place.bias))
        scale, gain, bias = ((one.to(x.device)) for one in (torch.sqrt(sigma**2 + place.eps), gain, bias))
        wide = x.float()
        return ((wide - wide.mean(dim=-1, keepdim=True)) / scale * gain + bias).to(x.dtype)

    return forward


def _middle(norms: Floats) -> float:
    """Geometric mean; 0 where a norm is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.exp(np.mean(np.log(norms))))
