"""A student taught by a teacher: losses of every kind, schemes, trees.

Losses of answers, features, relations and contrasts; schemes of several
networks; students that explain themselves; class heads; batches for pairs.
"""

from compress.distill.assistants import Found as Found
from compress.distill.assistants import Hop as Hop
from compress.distill.assistants import all_paths as all_paths
from compress.distill.assistants import best_path as best_path
from compress.distill.assistants import run_path as run_path
from compress.distill.assistants import search_path as search_path
from compress.distill.assistants import trainings as trainings
from compress.distill.attention import attention_loss as attention_loss
from compress.distill.attention import attention_map as attention_map
from compress.distill.attention import restoration_loss as restoration_loss
from compress.distill.born_again import born_again_loss as born_again_loss
from compress.distill.born_again import (
  confidence_weighted_loss as confidence_weighted_loss,
)
from compress.distill.born_again import confidence_weights as confidence_weights
from compress.distill.born_again import generations as generations
from compress.distill.born_again import (
  permuted_predictions_loss as permuted_predictions_loss,
)
from compress.distill.born_again import permuted_targets as permuted_targets
from compress.distill.boundary import boundary_loss as boundary_loss
from compress.distill.boundary import init_connectors as init_connectors
from compress.distill.co_study import Phase as Phase
from compress.distill.co_study import StudyLosses as StudyLosses
from compress.distill.co_study import co_study_losses as co_study_losses
from compress.distill.co_study import study_phases as study_phases
from compress.distill.contrastive import CRDMemory as CRDMemory
from compress.distill.contrastive import crd_embed as crd_embed
from compress.distill.contrastive import crd_loss as crd_loss
from compress.distill.contrastive import info_nce_loss as info_nce_loss
from compress.distill.contrastive import init_crd as init_crd
from compress.distill.contrastive import init_crd_memory as init_crd_memory
from compress.distill.contrastive import nce_loss as nce_loss
from compress.distill.contrastive import sample_negatives as sample_negatives
from compress.distill.cosine import cosine_feature_loss as cosine_feature_loss
from compress.distill.cosine import init_projection as init_projection
from compress.distill.defensive import NOT_A_DEFENCE as NOT_A_DEFENCE
from compress.distill.defensive import defensive_loss as defensive_loss
from compress.distill.defensive import (
  defensive_teacher_loss as defensive_teacher_loss,
)
from compress.distill.defensive import softened as softened
from compress.distill.ekd import ONE_IN as ONE_IN
from compress.distill.ekd import EKDState as EKDState
from compress.distill.ekd import EKDTerms as EKDTerms
from compress.distill.ekd import anchors as anchors
from compress.distill.ekd import ekd_loss as ekd_loss
from compress.distill.ekd import ekd_terms as ekd_terms
from compress.distill.ekd import init_ekd as init_ekd
from compress.distill.ekd import soft_rank as soft_rank
from compress.distill.embedding import embedding_loss as embedding_loss
from compress.distill.embedding import normalize as normalize
from compress.distill.ensemble import ensemble_logits as ensemble_logits
from compress.distill.ensemble import (
  ensemble_probabilities as ensemble_probabilities,
)
from compress.distill.factor import Paraphraser as Paraphraser
from compress.distill.factor import Translator as Translator
from compress.distill.factor import extract_factors as extract_factors
from compress.distill.factor import factor_loss as factor_loss
from compress.distill.factor import init_paraphraser as init_paraphraser
from compress.distill.factor import init_translator as init_translator
from compress.distill.factor import reconstruction_loss as reconstruction_loss
from compress.distill.flow import flow_loss as flow_loss
from compress.distill.flow import flow_matrix as flow_matrix
from compress.distill.gap import Gap as Gap
from compress.distill.gap import agreement as agreement
from compress.distill.gap import (
  average_relative_improvement as average_relative_improvement,
)
from compress.distill.gap import fidelity_divergence as fidelity_divergence
from compress.distill.gap import share_won_back as share_won_back
from compress.distill.gap import teacher_student_gap as teacher_student_gap
from compress.distill.gather import gather_batch as gather_batch
from compress.distill.heads import arcface_logits as arcface_logits
from compress.distill.heads import arcface_loss as arcface_loss
from compress.distill.heads import cosface_logits as cosface_logits
from compress.distill.heads import cosface_loss as cosface_loss
from compress.distill.heads import cosines as cosines
from compress.distill.heads import init_head as init_head
from compress.distill.hints import Adapter as Adapter
from compress.distill.hints import Regressor as Regressor
from compress.distill.hints import adapt as adapt
from compress.distill.hints import hint_loss as hint_loss
from compress.distill.hints import init_adapter as init_adapter
from compress.distill.hints import init_regressor as init_regressor
from compress.distill.hints import regress as regress
from compress.distill.label_smoothing import (
  label_smoothing_loss as label_smoothing_loss,
)
from compress.distill.label_smoothing import (
  self_distillation_loss as self_distillation_loss,
)
from compress.distill.label_smoothing import smooth_labels as smooth_labels
from compress.distill.label_smoothing import virtual_teacher as virtual_teacher
from compress.distill.label_smoothing import (
  virtual_teacher_loss as virtual_teacher_loss,
)
from compress.distill.maps import adaptive_average_pool as adaptive_average_pool
from compress.distill.maps import match_places as match_places
from compress.distill.munge import TransferSet as TransferSet
from compress.distill.munge import munge as munge
from compress.distill.munge import nearest_neighbours as nearest_neighbours
from compress.distill.munge import pseudo_label as pseudo_label
from compress.distill.noisy_teacher import noisy_logits as noisy_logits
from compress.distill.noisy_teacher import (
  noisy_teacher_loss as noisy_teacher_loss,
)
from compress.distill.professor import Refined as Refined
from compress.distill.professor import (
  class_likeness_kept as class_likeness_kept,
)
from compress.distill.professor import discriminator_loss as discriminator_loss
from compress.distill.professor import init_discriminator as init_discriminator
from compress.distill.professor import init_professor as init_professor
from compress.distill.professor import professor_loss as professor_loss
from compress.distill.professor import (
  professor_student_loss as professor_student_loss,
)
from compress.distill.professor import refine as refine
from compress.distill.regression_tree import RegressionTree as RegressionTree
from compress.distill.regression_tree import (
  fit_regression_tree as fit_regression_tree,
)
from compress.distill.regression_tree import (
  regression_tree_leaf as regression_tree_leaf,
)
from compress.distill.regression_tree import (
  regression_tree_nbytes as regression_tree_nbytes,
)
from compress.distill.regression_tree import (
  regression_tree_predict as regression_tree_predict,
)
from compress.distill.regression_tree import tree_targets as tree_targets
from compress.distill.relational import (
  relational_angle_loss as relational_angle_loss,
)
from compress.distill.relational import (
  relational_distance_loss as relational_distance_loss,
)
from compress.distill.relational import relational_loss as relational_loss
from compress.distill.response import cross_entropy as cross_entropy
from compress.distill.response import hinton_loss as hinton_loss
from compress.distill.response import logit_loss as logit_loss
from compress.distill.response import soft_target_loss as soft_target_loss
from compress.distill.sampler import BatchShape as BatchShape
from compress.distill.sampler import identity_balanced as identity_balanced
from compress.distill.selectivity import selectivity_loss as selectivity_loss
from compress.distill.sequence import beam_search as beam_search
from compress.distill.sequence import nearest_hypothesis as nearest_hypothesis
from compress.distill.sequence import sequence_loss as sequence_loss
from compress.distill.sequence import sequence_nll as sequence_nll
from compress.distill.sequence import smoothed_bleu as smoothed_bleu
from compress.distill.sequence import until_end as until_end
from compress.distill.sequence import word_loss as word_loss
from compress.distill.similarity import Embeds as Embeds
from compress.distill.similarity import correlation_loss as correlation_loss
from compress.distill.similarity import init_embeds as init_embeds
from compress.distill.similarity import probabilistic_loss as probabilistic_loss
from compress.distill.similarity import similarity_loss as similarity_loss
from compress.distill.soft_tree import SoftTree as SoftTree
from compress.distill.soft_tree import SoftTreePrediction as SoftTreePrediction
from compress.distill.soft_tree import SoftTreeState as SoftTreeState
from compress.distill.soft_tree import balance_penalty as balance_penalty
from compress.distill.soft_tree import init_soft_tree as init_soft_tree
from compress.distill.soft_tree import soft_tree_loss as soft_tree_loss
from compress.distill.soft_tree import soft_tree_paths as soft_tree_paths
from compress.distill.soft_tree import soft_tree_predict as soft_tree_predict
from compress.distill.stochastic_precision import (
  cosine_response_loss as cosine_response_loss,
)
from compress.distill.stochastic_precision import (
  stochastic_precision_loss as stochastic_precision_loss,
)
from compress.distill.subclass import even_owners as even_owners
from compress.distill.subclass import fold_subclasses as fold_subclasses
from compress.distill.subclass import spread_loss as spread_loss
from compress.distill.subclass import subclass_loss as subclass_loss
from compress.distill.subclass import (
  subclass_teacher_loss as subclass_teacher_loss,
)
from compress.distill.taps import tap_features as tap_features
from compress.distill.variational import Variational as Variational
from compress.distill.variational import init_variational as init_variational
from compress.distill.variational import learned_variance as learned_variance
from compress.distill.variational import variational_loss as variational_loss
