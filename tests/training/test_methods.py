from typing import Any

import pytest
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, VeraConfig
from transformers import LlamaConfig

from quintet.config import TrainingConfig
from quintet.errors import ConfigError
from quintet.training.methods import check_method, is_prompt_learning, learning_rate, peft_config, quantization

BASE = LlamaConfig(hidden_size=48, num_attention_heads=4)


def settings(**values: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(values)


def test_lora_adapts_every_linear_layer_with_the_configured_options() -> None:
    config = peft_config(settings(lora={"rank": 4, "alpha": 12, "dropout": 0.1, "dora": True, "rslora": True}), BASE)
    assert isinstance(config, LoraConfig)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 12, 0.1)
    assert (config.use_dora, config.use_rslora, config.target_modules) == (True, True, "all-linear")


def test_qlora_is_lora_over_a_base_in_four_bits() -> None:
    config = settings(method="qlora")
    assert isinstance(peft_config(config, BASE), LoraConfig)
    quantised = quantization(config, "bfloat16")
    assert quantised is not None
    assert (quantised.bnb_4bit_quant_type, quantised.bnb_4bit_use_double_quant) == ("nf4", True)
    assert quantization(settings(method="lora"), "bfloat16") is None


def test_prefix_puts_virtual_tokens_in_front_and_may_reparameterise_them() -> None:
    plain = peft_config(settings(method="prefix", prefix={"virtual_tokens": 7}), BASE)
    wide = peft_config(settings(method="prefix", prefix={"reparameterise": True, "hidden_size": 96}), BASE)
    assert isinstance(plain, PrefixTuningConfig)
    assert isinstance(wide, PrefixTuningConfig)
    assert (plain.num_virtual_tokens, plain.prefix_projection) == (7, False)
    assert (wide.prefix_projection, wide.encoder_hidden_size) == (True, 96)


def test_full_has_no_adapter() -> None:
    assert peft_config(settings(method="full"), BASE) is None


@pytest.mark.parametrize(
    ("method", "options", "kind"),
    [("ia3", {}, IA3Config), ("vera", {"r": 8}, VeraConfig), ("prompt", {}, PromptTuningConfig)],
)
def test_any_other_type_is_had_by_its_name(method: str, options: dict[str, Any], kind: type) -> None:
    config = settings(method=method, peft_options=options)
    check_method(config)
    made = peft_config(config, BASE)
    assert isinstance(made, kind)
    assert all(getattr(made, name) == value for name, value in options.items())


@pytest.mark.parametrize("trains", ["lora", "qlora", "prefix", "ia3"])
def test_what_dpo_trains_is_the_other_axis(trains: str) -> None:
    assert peft_config(settings(method="dpo", dpo={"trains": trains}), BASE) == peft_config(
        settings(method=trains), BASE
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "lroa"}, "there is no method 'lroa'; did you mean 'lora'?"),
        ({"method": "dpo", "dpo": {"trains": "dpo"}}, "'dpo' is what is minimised"),
        ({"method": "vera", "peft_options": {"rr": 8}}, "VERA has no such option"),
        ({"method": "lora", "peft_options": {"r": 8}}, "'lora' has a section of its own"),
        ({"method": "full", "peft_options": {"r": 8}}, "the method 'full' takes none"),
        ({"method": "prefix", "gradient_checkpointing": True}, "forgets the states that 'prefix' puts"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_way_out(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_method(settings(**values))
    assert message in str(caught.value)


def test_options_that_peft_itself_refuses_are_an_error_of_ours() -> None:
    with pytest.raises(ConfigError, match=r"PEFT's ADALORA does not take them: .*total_step"):
        peft_config(settings(method="adalora"), BASE)


def test_the_default_rate_of_lora_is_ten_times_that_of_full() -> None:
    assert learning_rate(settings(method="lora")) == pytest.approx(10 * learning_rate(settings(method="full")))


def test_a_named_rate_is_taken_and_preferences_have_their_own() -> None:
    assert learning_rate(settings(learning_rate=0.5)) == 0.5
    assert learning_rate(settings(method="dpo", learning_rate=0.5, dpo={"learning_rate": 0.1})) == 0.1
    assert learning_rate(settings(method="dpo", learning_rate=0.5)) < learning_rate(settings(method="lora"))


@pytest.mark.parametrize(("method", "known"), [("prefix", True), ("p_tuning", True), ("lora", False), ("full", False)])
def test_methods_that_learn_virtual_tokens_are_known(method: str, known: bool) -> None:
    assert is_prompt_learning(method) is known
