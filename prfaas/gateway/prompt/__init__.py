"""From a request to the token ids that the engine itself would make of it, or the reason why only the engine can."""
