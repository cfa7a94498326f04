"""What compression cost: accuracy, fairness, agreement, size, latency.

Everything takes plain arrays and counts, and computes in float64 on the host;
`summarize` makes the entries of a report from embeddings, and `write_report`
the page, the Markdown and the JSON.
"""

from compress.audit.accuracy import FoldAccuracy as FoldAccuracy
from compress.audit.accuracy import best_accuracy as best_accuracy
from compress.audit.accuracy import ten_fold_accuracy as ten_fold_accuracy
from compress.audit.agreement import Agreement as Agreement
from compress.audit.agreement import Flips as Flips
from compress.audit.agreement import agreement as agreement
from compress.audit.agreement import decision_flips as decision_flips
from compress.audit.agreement import embedding_cosines as embedding_cosines
from compress.audit.agreement import score_correlation as score_correlation
from compress.audit.attacks import Attacked as Attacked
from compress.audit.attacks import cross_entropies as cross_entropies
from compress.audit.attacks import fgsm as fgsm
from compress.audit.attacks import input_gradient as input_gradient
from compress.audit.attacks import judge_attack as judge_attack
from compress.audit.attacks import margins as margins
from compress.audit.attacks import pgd as pgd
from compress.audit.bootstrap import Subjects as Subjects
from compress.audit.bootstrap import bootstrap_intervals as bootstrap_intervals
from compress.audit.bootstrap import draw_subjects as draw_subjects
from compress.audit.bootstrap import independent_pairs as independent_pairs
from compress.audit.bootstrap import pair_subjects as pair_subjects
from compress.audit.bootstrap import pair_weights as pair_weights
from compress.audit.bootstrap import percentile_interval as percentile_interval
from compress.audit.bootstrap import (
  verification_figures as verification_figures,
)
from compress.audit.claims import missing_evidence as missing_evidence
from compress.audit.classification import Classification as Classification
from compress.audit.classification import accuracy_entry as accuracy_entry
from compress.audit.classification import classify as classify
from compress.audit.classification import over_runs as over_runs
from compress.audit.curves import det_curve as det_curve
from compress.audit.disparity import Spread as Spread
from compress.audit.disparity import (
  fairness_discrepancy_rate as fairness_discrepancy_rate,
)
from compress.audit.disparity import garbe as garbe
from compress.audit.disparity import gini as gini
from compress.audit.disparity import inequity_rate as inequity_rate
from compress.audit.disparity import (
  max_to_geometric_mean as max_to_geometric_mean,
)
from compress.audit.disparity import rate_gap as rate_gap
from compress.audit.disparity import rate_ratio as rate_ratio
from compress.audit.disparity import round_half_away as round_half_away
from compress.audit.disparity import spread as spread
from compress.audit.environment import environment as environment
from compress.audit.fairness import GroupReport as GroupReport
from compress.audit.fairness import group_accuracy as group_accuracy
from compress.audit.fairness import group_names as group_names
from compress.audit.fairness import group_rates as group_rates
from compress.audit.fairness import group_report as group_report
from compress.audit.fairness import pair_groups as pair_groups
from compress.audit.fairness import subject_strata as subject_strata
from compress.audit.folds import contiguous_folds as contiguous_folds
from compress.audit.folds import (
  identity_disjoint_folds as identity_disjoint_folds,
)
from compress.audit.latency import latency_entry as latency_entry
from compress.audit.latency import measure as measure
from compress.audit.latency import measure_batches as measure_batches
from compress.audit.plot_parts import Plot as Plot
from compress.audit.plot_stated import heat_map as heat_map
from compress.audit.plot_stated import image_rows as image_rows
from compress.audit.plot_stated import lines as lines
from compress.audit.plot_tree import (
  regression_tree_picture as regression_tree_picture,
)
from compress.audit.plot_tree import soft_tree_picture as soft_tree_picture
from compress.audit.proportions import homogeneity as homogeneity
from compress.audit.proportions import mcnemar as mcnemar
from compress.audit.proportions import ser_interval as ser_interval
from compress.audit.proportions import wilson_interval as wilson_interval
from compress.audit.proportions import zero_error_bound as zero_error_bound
from compress.audit.report import format_stated as format_stated
from compress.audit.report import format_table as format_table
from compress.audit.report import read_report as read_report
from compress.audit.report import write_report as write_report
from compress.audit.scores import cosine_scores as cosine_scores
from compress.audit.scores import normalize as normalize
from compress.audit.size import aligned_bytes as aligned_bytes
from compress.audit.size import bops as bops
from compress.audit.size import checkpoint_bytes as checkpoint_bytes
from compress.audit.size import checkpoint_ratio_mb as checkpoint_ratio_mb
from compress.audit.size import compression_ratio as compression_ratio
from compress.audit.size import effective_macs as effective_macs
from compress.audit.size import file_bytes as file_bytes
from compress.audit.size import format_mb as format_mb
from compress.audit.size import format_mib as format_mib
from compress.audit.size import nominal_bytes as nominal_bytes
from compress.audit.size import packed_bytes as packed_bytes
from compress.audit.size import quantized_bytes as quantized_bytes
from compress.audit.size import size_report as size_report
from compress.audit.summary import Protocol as Protocol
from compress.audit.summary import summarize as summarize
from compress.audit.verification import Roc as Roc
from compress.audit.verification import auc as auc
from compress.audit.verification import d_prime as d_prime
from compress.audit.verification import eer as eer
from compress.audit.verification import error_rates as error_rates
from compress.audit.verification import far_note as far_note
from compress.audit.verification import roc as roc
from compress.audit.verification import tar_at_far as tar_at_far
from compress.audit.verification import threshold_at_far as threshold_at_far
