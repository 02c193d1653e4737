"""The tour in words: each answer's first sentence, and what its claims say, for somebody who hears of it first."""

from __future__ import annotations

from collections.abc import Mapping

from gpt2ln_cli.output.claims import Says

# Of the tour's own claims.
SAYS = {
    "tour.one_pair_a_token": Says(
        "one pair a token",
        yes="{tokens:,} tokens were run, and the model computed {per_site:,} pairs at a site; a block has two sites, "
        "so that makes {per_block:,}; with ln_f the {blocks} blocks have {sites} sites, which makes {total:,}. "
        "Neither the {features} features of a token nor the {heads} heads multiply it: a pair is over all of the "
        "features at once.",
        no="{tokens:,} tokens were run, and at {sites} sites the model computed {total:,} pairs where one for each "
        "token at each would be {formula:,}.",
        unsure="The pairs could not be counted.",
    ),
    "tour.gain_and_bias_used": Says(
        "gain and bias used",
        yes="The gain is other than 1 at {gains} and the bias other than 0 at {biases} of {sites} sites: each sets how "
        "much of every feature its reader is given. The gain's mean is {least_gain} to {most_gain}; a token's y has a "
        "root mean square of {least} to {most}, where mean 0 and standard deviation 1 would make it 1.",
        no="At all {sites} sites the gain is 1 and the bias 0, as they are before any training: y is xhat.",
        unsure="What gain and bias are could not be read.",
    ),
    "tour.one_size": Says(
        "one size",
        yes="On its way through the {blocks} blocks a token's sigma goes from {smallest} to {largest}; what their "
        "attention and MLPs are given has a sigma between {statistic} and 1, before the gain.",
        no="Of some tokens sigma is no more than eps lets through: they leave with a sigma of {statistic}, and the "
        "sizes that x has on its way, {smallest} to {largest}, are not made one.",
        unsure="The sigmas are not finite.",
    ),
    "tour.direction_tells": Says(
        "direction tells",
        yes="With sizes made one, tokens differ for their readers by direction alone, which is kept and says much: a "
        "loss of {loss}, where a guess among {vocabulary:,} tokens has {guess}.",
        no="With sizes made one, tokens differ for their readers by direction alone, of which this model makes less "
        "than nothing: its loss is {loss}, that of a guess among {vocabulary:,} tokens {guess}.",
        unsure="With sizes made one, tokens differ for their readers by direction alone; what this model makes of it, "
        "a loss of {loss}, can't be told from a guess among {vocabulary:,} tokens, {guess}.",
    ),
    "tour.gradients_smaller": Says(
        "gradients smaller",
        yes="Gradients (how much the loss turns on what enters a block) are larger with that fixed sigma: {ratio} "
        "times at the first block (larger in {statistic} of {contexts} texts), {least} to {most} times at the others.",
        no="Gradients (how much the loss turns on what enters a block) are smaller with that fixed sigma: {ratio} "
        "times at the first block (larger in {statistic} of {contexts} texts), {least} to {most} times at the others.",
        unsure="Whether gradients (how much the loss turns on what enters a block) are larger with that fixed sigma "
        "can't be told: {ratio} times at the first block (larger in {statistic} of {contexts} texts), {least} to "
        "{most} times at the others.",
    ),
}

# Of other commands' claims, in this tour's words.
OTHERS: Mapping[str, Says] = {
    "verify.axis": Says(
        "axis",
        yes="Every normalization that it could be was tried on what entered the {sites} sites: this one gives what "
        "left them, {statistic:share} of the numbers at the worst site, and the next best, '{next}', "
        "{next_reproduced:share}.",
        no="Every normalization that it could be was tried on what entered the {sites} sites: {otherwise} of them "
        "follow {followed}; the first is {first}.",
        unsure="At {doubtful} of {sites} sites {rivals} gives what left them as well.",
    ),
    "verify.heads_play_no_part": Says(
        "heads",
        yes="The {heads} heads have no part in it: attention splits into heads after LayerNorm, and normalizing each "
        "head's features by themselves gives other numbers. 'pairs' are a site's in GPT-2 small, for 1,024 tokens of "
        "768 features; all else is this model's.",
        no="The {heads} heads have a part in it, at {alone} sites.",
        unsure="Whether the {heads} heads have a part in it can't be told here.",
    ),
    "verify.batch_independent": Says(
        "batch independence",
        yes="A context was run beside another one, which was then changed: {beside_another:share} of the numbers that "
        "LayerNorm made of the first stayed the same to the last bit.",
        no="A context was run beside another one, which was then changed: only {beside_another:share} of the numbers "
        "that LayerNorm made of the first stayed the same, and {in_another_shape:share} when it was run alone or in "
        "another row.",
        unsure="No context of this model is longer than a token.",
    ),
    "verify.causal": Says(
        "causality",
        yes="It is even done for each token by itself: with another last token {statistic:share} of what it made of "
        "all earlier ones stayed the same. Had each feature been normalized across the tokens, their xhat would have "
        "moved by up to {rival:.2g} of its size.",
        no="It is not done for each token by itself: with another last token only {statistic:share} of what it made of "
        "all earlier ones stayed the same.",
        unsure="One token has no earlier ones.",
    ),
    "verify.gain_and_bias": Says(
        "gain and bias",
        yes="y = gain * xhat + bias gives what left each of {sites} sites.",
        no="At {statistic:.0f} of {sites} sites what left comes from {used}.",
        unsure="With a gain of 1 and a bias of 0 nothing tells whether they are applied.",
    ),
    "compare.two_numbers_discarded": Says(
        "what is taken",
        yes="With these two x comes out of xhat again, in all {cases} cases (words times sites).",
        no="With these two x does not come out of xhat again, in {statistic:.0f} of {cases} cases (words times sites).",
        unsure="Whether x comes out of xhat again with these two can't be told.",
    ),
    "compare.scale_equalized": Says(
        "size",
        yes="So spikiness is two things: size (sigma), up to {before} times as large for one word as for the other, is "
        "made 1;",
        no="So spikiness is two things: size (sigma), up to {before} times as large for one word as for the other, is "
        "not made 1 here;",
        unsure="So spikiness is two things: size (sigma), of which nothing can be told here;",
    ),
    "compare.shape_kept": Says(
        "shape",
        yes="shape (kurtosis: here 0 for a bell curve, more the farther single features stick out) stays, for xhat is "
        "x - mu times one factor and points the same way.",
        no="shape (kurtosis: here 0 for a bell curve, more the farther single features stick out) changes, by up to "
        "{by_normalizing:.3g}.",
        unsure="shape (kurtosis: here 0 for a bell curve, more the farther single features stick out), of which "
        "nothing can be told either.",
    ),
    "compare.stream_keeps_sigma": Says(
        "gone?",
        yes="What is normalized is a copy, for attention or the MLP; x itself goes on in the residual stream. At the "
        "next site a linear fit reads sigma from it, on text it has not seen: R^2 {statistic:.2f}, where 1 is all "
        "(from y still {post:.2f}, by chance up to {chance:.2f}).",
        no="What is normalized is a copy, for attention or the MLP. Yet at the next site a linear fit does not read "
        "sigma from the residual stream: R^2 {statistic:.2f}, where 1 is all (from y {post:.2f}).",
        unsure="What is normalized is a copy, for attention or the MLP. Whether sigma can be read from the residual "
        "stream at the next site can't be told: {why}.",
    ),
    "compare.greater_sigma": Says(
        "larger",
        yes='"{second}" is the larger: it has {difference} times the size of "{first}" (median of sites).',
        no='"{first}" is the larger, the other way round than in the question: "{second}" has {difference} times its '
        "size (median of sites).",
        unsure='"{second}" has {difference} times the size of "{first}" (median of sites), which tells nothing: {why}.',
    ),
    "compare.greater_kurtosis": Says(
        "spikier",
        yes='In shape "{second}" is the spikier: its kurtosis is {difference:+.2f} against that of "{first}".',
        no='In shape "{first}" is the spikier, the other way round than in the question: the kurtosis of "{second}" is '
        "{difference:+.2f} against it.",
        unsure='The kurtosis of "{second}" is {difference:+.2f} against that of "{first}", which tells nothing: {why}.',
    ),
    "compare.tokens_share_direction": Says(
        "a shared direction",
        yes="One direction that they share holds {statistic:.0%} of their xhat (of its squared length, in the median "
        "of {sites} sites), where chance makes at most {threshold:.0%}.",
        no="One direction holds {statistic:.0%} of their xhat (of its squared length, in the median of {sites} sites), "
        "and chance makes up to {threshold:.0%}.",
        unsure="What they share can't be told: some numbers are none.",
    ),
    "compare.lost_across_tokens": Says(
        "lost across tokens",
        yes="It is their mean, which normalizing across tokens subtracts.",
        no="Normalizing across tokens would subtract nothing but that.",
        unsure="What normalizing across tokens would subtract can't be told.",
    ),
    "compare.more_than_random_tokens": Says(
        "more than any tokens",
        yes="As many random tokens share {random:.0%}, and by chance at most {threshold:.0%}: these share more.",
        no="As many random tokens share {random:.0%}, and by chance up to {threshold:.0%}.",
        unsure="How much random tokens share can't be told.",
    ),
    "compare.more_of_their_own": Says(
        "of their own",
        yes="Take out the direction that all text shares, and they share {statistic:.0%} of what is left, random "
        "tokens {random:.0%} and by chance at most {threshold:.0%}: {own:.0%} is these words' own.",
        no="Take out the direction that all text shares, and they share {statistic:.0%} of what is left, random tokens "
        "{random:.0%} and by chance up to {threshold:.0%}: nothing of it can be called these words' own.",
        unsure="What is these words' own can't be told.",
    ),
    "ablate.gain_needed": Says(
        "gain",
        yes="With a gain of 1 everywhere its loss (the mean of -log p, p being the probability that it gave to the "
        "next token) goes from {real_loss} to {loss}.",
        no="With a gain of 1 everywhere its loss (the mean of -log p, p being the probability that it gave to the next "
        "token) gets no higher: {loss}, where it was {real_loss}.",
        unsure="With a gain of 1 everywhere its loss (the mean of -log p, p being the probability that it gave to the "
        "next token) is {loss}, too near to {real_loss} as it is to tell.",
    ),
    "ablate.bias_needed": Says(
        "bias",
        yes="With a bias of 0 it goes to {loss}.",
        no="With a bias of 0 it gets no higher: {loss}.",
        unsure="With a bias of 0 it is {loss}, too near to tell.",
    ),
    "ablate.scale_needed": Says(
        "scale",
        yes="With nothing in LayerNorm's place (y = x) the loss (mean of -log p of the next token) goes from "
        "{real_loss} to {loss}.",
        no="With nothing in LayerNorm's place (y = x) the loss (mean of -log p of the next token) gets no higher: "
        "{loss}, where it was {real_loss}.",
        unsure="With nothing in LayerNorm's place (y = x) the loss (mean of -log p of the next token) is {loss}, where "
        "it was {real_loss}: too near to tell.",
    ),
    "ablate.own_scale_needed": Says(
        "own scale",
        yes="With one fixed sigma for all tokens of a site it goes to {loss}: so much each token's own sigma is worth.",
        no="With one fixed sigma for all tokens of a site it gets no higher, {loss}: each token's own sigma is worth "
        "nothing here.",
        unsure="With one fixed sigma for all tokens of a site it is {loss}: whether each token's own is worth anything "
        "can't be told.",
    ),
}

# The plain sentences that an answer begins with: of which claim each, and how it reads.
LEADS: Mapping[int, Mapping[str, Says]] = {
    1: {
        "tour.one_pair_a_token": Says(
            "",
            "One for each token, at each of the layer's two LayerNorms.",
            "On this model it is not one for each token.",
            "That could not be counted.",
        )
    },
    2: {
        "verify.axis": Says(
            "",
            "It is one for each token, over the features of that token.",
            "On this model it is not everywhere one for each token over its features.",
            "On this model these texts can't tell.",
        )
    },
    3: {
        "verify.batch_independent": Says(
            "",
            "Yes: what else is in the minibatch makes no difference.",
            "On this model it is not: what else is in the minibatch makes a difference.",
            "On this model that can't be told.",
        )
    },
    4: {
        "compare.two_numbers_discarded": Says(
            "",
            "LayerNorm takes two numbers from a token, its mean mu and its size sigma.",
            "On this model something else than a token's mean and size is taken.",
            "What is taken can't be told here.",
        ),
        "compare.shape_kept": Says(
            "",
            "Its shape, how far single features stick out, is kept.",
            "Its shape changes, too.",
            "What becomes of its shape can't be told.",
        ),
        "compare.stream_keeps_sigma": Says(
            "",
            "And the size is still in the network: the residual stream keeps it.",
            "Whether the size is still in the network, a linear fit does not show.",
            "Whether the size is still in the network can't be told here.",
        ),
    },
    5: {
        "compare.lost_across_tokens": Says(
            "",
            "All that the words have in common would be lost.",
            "Nothing that could be told from chance.",
            "That can't be told here.",
        ),
        "compare.more_of_their_own": Says(
            "",
            "Part of that is their own, not every text's.",
            "That is within what any words of a text have in common.",
            "How much of it is their own can't be told.",
        ),
    },
    6: {
        "tour.gain_and_bias_used": Says(
            "",
            "It uses them: what leaves LayerNorm has no longer mean 0 and standard deviation 1.",
            "This model keeps mean 0 and standard deviation 1, up to eps.",
            "That could not be read.",
        )
    },
    7: {
        "tour.one_size": Says(
            "",
            "It gives what reads x (attention, MLPs, the output) inputs of one size.",
            "On this model it gives what reads x (attention, MLPs, the output) no inputs of one size: eps is too "
            "large.",
            "What sizes it gives to what reads x could not be measured.",
        ),
        "ablate.scale_needed": Says(
            "",
            "Without it this model predicts worse.",
            "Without it this model predicts no worse.",
            "Whether this model predicts worse without it, these texts can't tell.",
        ),
    },
}
