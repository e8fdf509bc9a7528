"""The OpenAI-compatible HTTP front: parse, tokenise, place, execute, relay."""
