"""Fewer numbers: saliencies, masks, schedules, and channels that really go."""

from compress.prune import gates as gates
from compress.prune import lottery_ticket as lottery_ticket
from compress.prune import saliency_metrics as saliency_metrics
from compress.prune import strong_lottery_ticket as strong_lottery_ticket
from compress.prune import train_large as train_large
from compress.prune.activation_maximization import Ascent as Ascent
from compress.prune.activation_maximization import (
  Visualizations as Visualizations,
)
from compress.prune.activation_maximization import (
  interpretable_filters as interpretable_filters,
)
from compress.prune.activation_maximization import (
  visualize_filters as visualize_filters,
)
from compress.prune.allocation import Allocation as Allocation
from compress.prune.allocation import densities as densities
from compress.prune.allocation import erdos_renyi as erdos_renyi
from compress.prune.allocation import erdos_renyi_kernel as erdos_renyi_kernel
from compress.prune.allocation import given as given
from compress.prune.allocation import uniform as uniform
from compress.prune.budget import byte_budget as byte_budget
from compress.prune.budget import global_threshold as global_threshold
from compress.prune.budget import mac_budget as mac_budget
from compress.prune.budget import macs_per_weight as macs_per_weight
from compress.prune.channel_budget import ChannelBudget as ChannelBudget
from compress.prune.channel_budget import (
  channel_mac_budget as channel_mac_budget,
)
from compress.prune.channel_lasso import Reconstruction as Reconstruction
from compress.prune.channel_lasso import channel_lasso as channel_lasso
from compress.prune.channel_lasso import lasso_channels as lasso_channels
from compress.prune.channel_points import weights_removed as weights_removed
from compress.prune.channel_selection import Decision as Decision
from compress.prune.channel_selection import DecisionUnit as DecisionUnit
from compress.prune.channel_selection import active_density as active_density
from compress.prune.channel_selection import attach_units as attach_units
from compress.prune.channel_selection import decide_channels as decide_channels
from compress.prune.channel_selection import decision_paths as decision_paths
from compress.prune.channel_selection import (
  init_decision_unit as init_decision_unit,
)
from compress.prune.channel_selection import project_units as project_units
from compress.prune.channel_selection import sample_macs as sample_macs
from compress.prune.channel_selection_step import (
  SelectionState as SelectionState,
)
from compress.prune.channel_selection_step import (
  make_selection_step as make_selection_step,
)
from compress.prune.channel_selection_step import (
  selection_penalty as selection_penalty,
)
from compress.prune.channel_selection_step import (
  selection_temperature as selection_temperature,
)
from compress.prune.cluster_filters import Clusters as Clusters
from compress.prune.cluster_filters import absorb_clusters as absorb_clusters
from compress.prune.cluster_filters import cluster_channels as cluster_channels
from compress.prune.cluster_filters import cluster_filters as cluster_filters
from compress.prune.cluster_filters import filter_features as filter_features
from compress.prune.cluster_filters import group_features as group_features
from compress.prune.cluster_filters import (
  single_shot_threshold as single_shot_threshold,
)
from compress.prune.counts import SparsityReport as SparsityReport
from compress.prune.counts import keep_fraction as keep_fraction
from compress.prune.counts import sparsity_report as sparsity_report
from compress.prune.curvature import empirical_fisher as empirical_fisher
from compress.prune.curvature import flatten_params as flatten_params
from compress.prune.curvature import (
  gauss_newton_diagonal as gauss_newton_diagonal,
)
from compress.prune.curvature import (
  gauss_newton_vectors as gauss_newton_vectors,
)
from compress.prune.curvature import hessian_diagonal as hessian_diagonal
from compress.prune.curvature import hutchinson_diagonal as hutchinson_diagonal
from compress.prune.edge_popup import edge_popup as edge_popup
from compress.prune.edge_popup import (
  kaiming_uniform_scores as kaiming_uniform_scores,
)
from compress.prune.edge_popup import (
  signed_kaiming_constant as signed_kaiming_constant,
)
from compress.prune.fairgrape import FairRound as FairRound
from compress.prune.fairgrape import fair_importance as fair_importance
from compress.prune.fairgrape import fair_keep as fair_keep
from compress.prune.fairgrape import fair_masks as fair_masks
from compress.prune.fairgrape import fair_rounds as fair_rounds
from compress.prune.fairgrape import prune_fairly as prune_fairly
from compress.prune.fairgrape import target_shares as target_shares
from compress.prune.grasp import balanced_indices as balanced_indices
from compress.prune.grasp import grasp_saliency as grasp_saliency
from compress.prune.group_balance import group_balanced as group_balanced
from compress.prune.group_importance import by_group as by_group
from compress.prune.group_importance import group_importance as group_importance
from compress.prune.group_importance import group_pattern as group_pattern
from compress.prune.group_importance import keep_channels as keep_channels
from compress.prune.group_importance import (
  random_importance as random_importance,
)
from compress.prune.group_sparsity import (
  add_group_sparsity as add_group_sparsity,
)
from compress.prune.group_sparsity import group_factors as group_factors
from compress.prune.group_sparsity import (
  group_sparsity_penalty as group_sparsity_penalty,
)
from compress.prune.group_sparsity import group_squares as group_squares
from compress.prune.group_sparsity import shrinkage_factors as shrinkage_factors
from compress.prune.grouped_execution import run_grouped as run_grouped
from compress.prune.grouped_execution import slim_branches as slim_branches
from compress.prune.growing_regularization import (
  grow_strengths as grow_strengths,
)
from compress.prune.growing_regularization import growing_decay as growing_decay
from compress.prune.image_similarity import color_similarity as color_similarity
from compress.prune.image_similarity import (
  removal_similarity as removal_similarity,
)
from compress.prune.image_similarity import (
  texture_similarity as texture_similarity,
)
from compress.prune.l1_filters import filter_norms as filter_norms
from compress.prune.l1_filters import filter_saliency as filter_saliency
from compress.prune.l1_filters import filter_sensitivity as filter_sensitivity
from compress.prune.l1_filters import l1_filters as l1_filters
from compress.prune.l1_filters import producing_kernels as producing_kernels
from compress.prune.l1_filters import tolerated_sparsity as tolerated_sparsity
from compress.prune.least_squares import Moments as Moments
from compress.prune.least_squares import lasso as lasso
from compress.prune.least_squares import moments as moments
from compress.prune.least_squares import refit as refit
from compress.prune.least_squares import relative_error as relative_error
from compress.prune.magnitude import BASELINES as BASELINES
from compress.prune.magnitude import Baseline as Baseline
from compress.prune.magnitude import Saliency as Saliency
from compress.prune.magnitude import activation_saliency as activation_saliency
from compress.prune.magnitude import gradient_saliency as gradient_saliency
from compress.prune.magnitude import magnitude_saliency as magnitude_saliency
from compress.prune.magnitude import random_saliency as random_saliency
from compress.prune.magnitude import saliencies as saliencies
from compress.prune.masking import apply_masks as apply_masks
from compress.prune.masking import check_tree as check_tree
from compress.prune.masking import empty_leaves as empty_leaves
from compress.prune.masking import masks_of as masks_of
from compress.prune.masking import remask as remask
from compress.prune.masking import reset_moments as reset_moments
from compress.prune.masking import rewind as rewind
from compress.prune.masks import PRUNE as PRUNE
from compress.prune.masks import covered as covered
from compress.prune.masks import fixed_masks as fixed_masks
from compress.prune.masks import is_kernel as is_kernel
from compress.prune.masks import masked as masked
from compress.prune.masks import prune_weights as prune_weights
from compress.prune.matrix_form import NM as NM
from compress.prune.matrix_form import OneShot as OneShot
from compress.prune.movement import movement as movement
from compress.prune.movement import movement_schedule as movement_schedule
from compress.prune.movement import sigmoid_penalty as sigmoid_penalty
from compress.prune.movement import soft_movement as soft_movement
from compress.prune.nisp import (
  infinite_feature_selection as infinite_feature_selection,
)
from compress.prune.nisp import neuron_importance as neuron_importance
from compress.prune.nisp import propagate_importance as propagate_importance
from compress.prune.nisp import responses_at as responses_at
from compress.prune.noncontributing import Reader as Reader
from compress.prune.noncontributing import UnitExtremes as UnitExtremes
from compress.prune.noncontributing import UnitRelations as UnitRelations
from compress.prune.noncontributing import UnitRemoval as UnitRemoval
from compress.prune.noncontributing import (
  find_noncontributing as find_noncontributing,
)
from compress.prune.noncontributing import fold_units as fold_units
from compress.prune.noncontributing import init_extremes as init_extremes
from compress.prune.noncontributing import merge_extremes as merge_extremes
from compress.prune.noncontributing import observe_units as observe_units
from compress.prune.noncontributing import readers_of as readers_of
from compress.prune.noncontributing import (
  remove_noncontributing as remove_noncontributing,
)
from compress.prune.optimal_brain_damage import (
  brain_damage_saliency as brain_damage_saliency,
)
from compress.prune.optimal_brain_surgeon import Surgery as Surgery
from compress.prune.optimal_brain_surgeon import brain_surgeon as brain_surgeon
from compress.prune.optimal_brain_surgeon import (
  brain_surgeon_saliency as brain_surgeon_saliency,
)
from compress.prune.optimal_brain_surgeon import (
  inverse_blocks as inverse_blocks,
)
from compress.prune.optimal_brain_surgeon import (
  inverse_hessian as inverse_hessian,
)
from compress.prune.paths import by_path as by_path
from compress.prune.paths import pick as pick
from compress.prune.penalties import group_lasso as group_lasso
from compress.prune.penalties import group_lasso_prox as group_lasso_prox
from compress.prune.penalties import ji_smoothness as ji_smoothness
from compress.prune.penalties import l1 as l1
from compress.prune.penalties import l1_prox as l1_prox
from compress.prune.penalties import scale_l1 as scale_l1
from compress.prune.penalties import scale_saliency as scale_saliency
from compress.prune.penalties import unit_energy as unit_energy
from compress.prune.penalties import weight_decay as weight_decay
from compress.prune.penalties import weight_elimination as weight_elimination
from compress.prune.prune_then_distill import (
  rewinding_rounds as rewinding_rounds,
)
from compress.prune.prune_then_distill import student_widths as student_widths
from compress.prune.relevance_propagation import (
  filter_relevance as filter_relevance,
)
from compress.prune.relevance_propagation import (
  propagate_relevance as propagate_relevance,
)
from compress.prune.relevance_rules import LRP_0 as LRP_0
from compress.prune.relevance_rules import Z_PLUS as Z_PLUS
from compress.prune.relevance_rules import AlphaBetaRule as AlphaBetaRule
from compress.prune.relevance_rules import BoxRule as BoxRule
from compress.prune.relevance_rules import EpsilonRule as EpsilonRule
from compress.prune.relevance_rules import (
  RelevanceRules as RelevanceRules,
)
from compress.prune.residual_blocks import activity as activity
from compress.prune.residual_blocks import inside_blocks as inside_blocks
from compress.prune.rounding import AMC as AMC
from compress.prune.rounding import EDGE_POPUP as EDGE_POPUP
from compress.prune.rounding import JAXPRUNER as JAXPRUNER
from compress.prune.rounding import LIBRARY as LIBRARY
from compress.prune.rounding import PRESETS as PRESETS
from compress.prune.rounding import RIGL as RIGL
from compress.prune.rounding import SHRINKBENCH as SHRINKBENCH
from compress.prune.rounding import SOFT_FILTER as SOFT_FILTER
from compress.prune.rounding import SPARSEGPT as SPARSEGPT
from compress.prune.rounding import SYNFLOW as SYNFLOW
from compress.prune.rounding import TORCH_PRUNING as TORCH_PRUNING
from compress.prune.rounding import TORCH_PRUNING_GLOBAL as TORCH_PRUNING_GLOBAL
from compress.prune.rounding import Rounding as Rounding
from compress.prune.saliency_grid import channel_grid as channel_grid
from compress.prune.saliency_metrics import ChannelSaliency as ChannelSaliency
from compress.prune.saliency_metrics import all_saliencies as all_saliencies
from compress.prune.saliency_metrics import random_channels as random_channels
from compress.prune.schedule import Schedule as Schedule
from compress.prune.schedule import cubic as cubic
from compress.prune.schedule import iterative as iterative
from compress.prune.schedule import one_shot as one_shot
from compress.prune.selection import Selection as Selection
from compress.prune.selection import n_m as n_m
from compress.prune.selection import ranks as ranks
from compress.prune.selection import select_blocks as select_blocks
from compress.prune.selection import select_channels as select_channels
from compress.prune.selection import select_n_m as select_n_m
from compress.prune.selection import select_weights as select_weights
from compress.prune.selection import threshold as threshold
from compress.prune.selection import top_k as top_k
from compress.prune.sensitivity import SensitivityState as SensitivityState
from compress.prune.sensitivity import add_training_step as add_training_step
from compress.prune.sensitivity import init_sensitivity as init_sensitivity
from compress.prune.sensitivity import karnin_sensitivity as karnin_sensitivity
from compress.prune.skeletonization import (
  average_relevance as average_relevance,
)
from compress.prune.skeletonization import linear_error as linear_error
from compress.prune.skeletonization import (
  skeleton_relevance as skeleton_relevance,
)
from compress.prune.snip import snip_saliency as snip_saliency
from compress.prune.soft_filters import filters_by_group as filters_by_group
from compress.prune.soft_filters import live_filters as live_filters
from compress.prune.soft_filters import soft_filters as soft_filters
from compress.prune.soft_filters import strong_filters as strong_filters
from compress.prune.soft_filters import zero_filters as zero_filters
from compress.prune.soft_weight_sharing import Mixture as Mixture
from compress.prune.soft_weight_sharing import init_mixture as init_mixture
from compress.prune.soft_weight_sharing import (
  responsibilities as responsibilities,
)
from compress.prune.soft_weight_sharing import (
  soft_weight_sharing as soft_weight_sharing,
)
from compress.prune.sparse_training import Rewiring as Rewiring
from compress.prune.sparse_training import drop_and_grow as drop_and_grow
from compress.prune.sparse_training import mask_gradients as mask_gradients
from compress.prune.sparse_training import regrow as regrow
from compress.prune.sparse_training import rigl as rigl
from compress.prune.sparse_training import sparse_evolution as sparse_evolution
from compress.prune.sparse_training import sparse_optimizer as sparse_optimizer
from compress.prune.sparsegpt import add_inputs as add_inputs
from compress.prune.sparsegpt import empty_hessian as empty_hessian
from compress.prune.sparsegpt import prune_sparsegpt as prune_sparsegpt
from compress.prune.sparsegpt import solve_sparsegpt as solve_sparsegpt
from compress.prune.synflow import synflow_masks as synflow_masks
from compress.prune.synflow import synflow_saliency as synflow_saliency
from compress.prune.taylor_importance import (
  output_importance as output_importance,
)
from compress.prune.taylor_importance import (
  taylor_importance as taylor_importance,
)
from compress.prune.units import gate_units as gate_units
from compress.prune.units import init_gates as init_gates
from compress.prune.units import tap_units as tap_units
from compress.prune.wanda import cumulative_mask as cumulative_mask
from compress.prune.wanda import input_squares as input_squares
from compress.prune.wanda import prune_wanda as prune_wanda
from compress.prune.wanda import row_mask as row_mask
from compress.prune.wanda import wanda_score as wanda_score
