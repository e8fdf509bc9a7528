"""What is wrong between the controller's section and the engines that it may convert."""

from collections.abc import Iterator

from prfaas.config.sections import Config


def controller_problems(config: Config) -> Iterator[str]:
    """One line for each problem."""
    site, controller, convertible = config.gateway.site, config.controller, config.convertible_engines()
    for name, engine in convertible.items():
        if engine.site != site:
            yield (
                f"engines.{name}.convertible: site {engine.site!r} only prefills for the gateway's site {site!r}: only "
                "engines there have another role to play"
            )
        elif len(engine.roles) != 1:
            yield f"engines.{name}.convertible: plays both roles already: give it one, which it begins with"
    decoders, prefillers = config.engines_able(site, "decode"), config.engines_able(site, "prefill")
    if convertible and len(decoders) < controller.min_decode_engines:
        yield f"controller.min_decode_engines: {controller.min_decode_engines}: only {len(decoders)} can decode"
    if convertible and len(prefillers) < controller.min_prefill_engines:
        yield f"controller.min_prefill_engines: {controller.min_prefill_engines}: only {len(prefillers)} can prefill"
    highest = config.model.max_model_len
    if controller.min_threshold_tokens > highest:
        yield (
            f"controller.min_threshold_tokens: {controller.min_threshold_tokens}: longer than model.max_model_len, "
            f"{highest}: nothing would ever be prefilled in another site"
        )
    if controller.mode == "on" and convertible and config.gateway.workers > 1:
        yield (
            f"controller.mode: 'on' with {config.gateway.workers} gateway.workers, each of which would convert engines "
            f"on its own: make that 1, take 'convertible' from {', '.join(convertible)}, or say 'shadow'"
        )
