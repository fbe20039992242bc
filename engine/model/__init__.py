"""The networks: codec, generator, cache, sampler and heads, in pure torch."""
