"""Compression of trained JAX models, and an account of what it cost.

Import the sub-package of the topic: `compress.graph`, `compress.quantize`,
`compress.distill`, `compress.encode`, `compress.audit`, `compress.models`,
`compress.data`, `compress.train`.
"""
