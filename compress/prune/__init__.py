"""Fewer numbers: saliencies, masks, schedules, and channels that really go."""

from compress.prune.activation_maximization import Ascent as Ascent
from compress.prune.activation_maximization import (
  Visualizations as Visualizations,
)
from compress.prune.activation_maximization import (
  interpretable_filters as interpretable_filters,
)
from compress.prune.activation_maximization import visualize as visualize
from compress.prune.grasp import balanced_indices as balanced_indices
from compress.prune.grasp import grasp_saliency as grasp_saliency
from compress.prune.image_similarity import color_similarity as color_similarity
from compress.prune.image_similarity import (
  removal_similarity as removal_similarity,
)
from compress.prune.image_similarity import (
  texture_similarity as texture_similarity,
)
from compress.prune.leaves import empty_leaves as empty_leaves
from compress.prune.nisp import (
  infinite_feature_selection as infinite_feature_selection,
)
from compress.prune.nisp import neuron_importance as neuron_importance
from compress.prune.nisp import propagate_importance as propagate_importance
from compress.prune.nisp import responses_at as responses_at
from compress.prune.relevance_propagation import LRP_0 as LRP_0
from compress.prune.relevance_propagation import AlphaBeta as AlphaBeta
from compress.prune.relevance_propagation import Box as Box
from compress.prune.relevance_propagation import Epsilon as Epsilon
from compress.prune.relevance_propagation import Rules as Rules
from compress.prune.relevance_propagation import (
  filter_relevance as filter_relevance,
)
from compress.prune.relevance_propagation import (
  reference_samples as reference_samples,
)
from compress.prune.relevance_propagation import relevance as relevance
from compress.prune.snip import snip_saliency as snip_saliency
from compress.prune.synflow import synflow_masks as synflow_masks
from compress.prune.synflow import synflow_saliency as synflow_saliency
