"""One config.json and one tokenizer_config.json for transformers 4 and 5, and for engines that follow either.

Version 5 renamed fields: `rope_theta`, `rope_scaling` and `partial_rotary_factor` became entries of `rope_parameters`,
`torch_dtype` became `dtype`. Version 4 ignores the new names and takes its defaults without a word: a rotary base of
10,000, no scaling. Version 5 reads both. So both are written, and what the base model's own file says wins, because
that is what every reader has been tried with. Plain functions over the files' contents.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

Fields = dict[str, JsonValue]

LAYER_TYPES = ("full_attention", "sliding_attention")
"""Keys of `rope_parameters` in families that rotate the layers of each kind in a way of their own."""
NEOX = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
OTHER_NAMES = {"gpt_neox": NEOX, "gpt_neox_japanese": NEOX}
"""model_type -> what version 4 calls `rope_theta` and `partial_rotary_factor` there, if it is something else."""
SCALED_FULL_ATTENTION = ("gemma3_text", "gemma3n_text", "olmo3")
"""Families where both versions apply `rope_scaling` to the layers of full attention."""
TRAINING_DECIDES = ("architectures", "dtype", "torch_dtype", "transformers_version")
"""Fields of config.json in which the trained model may differ from its base."""
OF_THE_BASE_ONLY = ("_name_or_path", "auto_map", "quantization_config")
"""Fields that are not taken from the base: the export has neither its code nor its quantised weights."""


def with_both_spellings(config: Mapping[str, JsonValue], *, rope: bool = True) -> Fields:
    """A model's config as version 5 writes it, with the fields that version 4 reads added; none is replaced.

    Args:
        rope: whether to add those of the rotation, too.
    """
    found = dict(config)
    if isinstance(text := found.get("text_config"), dict):
        found["text_config"] = with_both_spellings(text, rope=rope)
    if "dtype" in found:
        found.setdefault("torch_dtype", found["dtype"])
    if "num_local_experts" in found:
        found.setdefault("num_experts", found["num_local_experts"])
    parameters = found.get("rope_parameters")
    if rope and isinstance(parameters, dict) and parameters:
        for name, value in _rope_of_version_4(parameters, str(found.get("model_type"))).items():
            found.setdefault(name, value)
    return dict(sorted(found.items()))


def joined_with_base(
    written: Mapping[str, JsonValue], base: Mapping[str, JsonValue] | None, *, older_rope: bool = True
) -> Fields:
    """The exported model's config: the base's fields as its own file spells them, the others as written.

    Args:
        written: what version 5 saved for the trained model.
        base: the base model's config.json; None if there is none. Not used if it describes another class of model, such
            as the one with an image encoder of which only the language model was trained.
        older_rope: whether to add version 4's fields of the rotation: some families that are new in version 5 take
            them for another rotation than `rope_parameters` says.
    """
    complete = with_both_spellings(written, rope=older_rope)
    if base is None or base.get("model_type") != written.get("model_type"):
        return complete
    own = {name: value for name, value in base.items() if name not in (*TRAINING_DECIDES, *OF_THE_BASE_ONLY)}
    return dict(sorted((complete | own).items()))


def readable_tokenizer(settings: Mapping[str, JsonValue]) -> Fields:
    """A tokenizer_config.json that version 4 loads, too; equal to what it was given if that was one."""
    found = dict(settings)
    if found.get("tokenizer_class") == "TokenizersBackend":
        # Version 5's name for a tokenizer that is all in tokenizer.json.
        found["tokenizer_class"] = "PreTrainedTokenizerFast"
        found.pop("backend", None)
        found.pop("is_local", None)
    if isinstance(extra := found.get("extra_special_tokens"), list):
        # Version 4 takes a mapping of names to tokens here, and fails on a list.
        del found["extra_special_tokens"]
        found.setdefault("additional_special_tokens", extra)
    return found


def _rope_of_version_4(rope: Mapping[str, JsonValue], model_type: str) -> Fields:
    nested = {kind: value for kind in LAYER_TYPES if isinstance(value := rope.get(kind), dict)}
    if len(nested) < len(rope) and any(isinstance(value, dict) for value in rope.values()):
        return {}  # Layers of kinds that version 4 does not know.
    if not nested:
        return _flat(rope, model_type)
    found = _flat(nested.get("full_attention", {}), model_type)
    if model_type not in SCALED_FULL_ATTENTION and found.get("rope_scaling") is not None:
        del found["rope_scaling"]  # Version 5 would apply it to all layers.
    if "rope_theta" in (local := nested.get("sliding_attention", {})):
        found["rope_local_base_freq"] = local["rope_theta"]
    return found


def _flat(rope: Mapping[str, JsonValue], model_type: str) -> Fields:
    names = OTHER_NAMES.get(model_type, {})
    found: Fields = {}
    scaling = dict(rope)
    for name in ("rope_theta", "partial_rotary_factor"):
        if (value := scaling.pop(name, None)) is not None:
            found[names.get(name, name)] = value
    kind = scaling.get("rope_type", "default")
    if kind == "longrope":
        # Phi's config accepts no other fields than these three, and looks for the original length beside them.
        found["original_max_position_embeddings"] = scaling.get("original_max_position_embeddings")
        scaling = {"type": kind, "short_factor": scaling.get("short_factor"), "long_factor": scaling.get("long_factor")}
    found["rope_scaling"] = None if kind == "default" else scaling
    return found
