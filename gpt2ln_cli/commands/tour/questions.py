"""The questions, in the order in which they are answered; nothing is imported for them."""

from __future__ import annotations

QUESTIONS = (
    "For one layer, how many (mean, standard deviation) pairs are computed?",
    "Is it one normalization per token, one per feature across tokens, or one for everything together? What do the "
    "heads have to do with it?",
    "Is it done separately for each context in the minibatch?",
    'Why force a bland word ("ok") to be as spiky as a loaded one ("hatred")? What exactly is thrown away, and is it '
    "really gone from the network?",
    'If one normalized across tokens instead, what would be lost in "war violence hate fear"?',
    "Does GPT-2 use a learned gain and bias, or does it keep mean 0 and standard deviation 1?",
    "And why have it at all: what would the model be without?",
)
