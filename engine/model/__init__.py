"""The networks: codec, generator, memory model, sampler and heads, in pure torch."""
