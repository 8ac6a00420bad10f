"""A privacy card: what is known of a model's anonymity, bound to the model's fingerprint."""
