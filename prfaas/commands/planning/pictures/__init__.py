"""The pictures of a plan, drawn with matplotlib (the extra `plan`); decision 087 says why with that."""
