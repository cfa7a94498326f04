"""Which layer gets how much: sensitivities, and choices under a budget."""

from compress.search.pareto import Choice as Choice
from compress.search.pareto import Front as Front
from compress.search.pareto import pareto_front as pareto_front
from compress.search.sensitivity import (
  cosine_divergence as cosine_divergence,
)
from compress.search.sensitivity import (
  layer_sensitivities as layer_sensitivities,
)
from compress.search.sensitivity import (
  softmax_divergence as softmax_divergence,
)
