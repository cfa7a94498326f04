"""Inputs made from the model itself, where data is missing."""

from compress.synthesize.batch_norm import STATISTICS as STATISTICS
from compress.synthesize.batch_norm import batch_norm_loss as batch_norm_loss
from compress.synthesize.batch_norm import input_loss as input_loss
from compress.synthesize.batch_norm import statistics_loss as statistics_loss
from compress.synthesize.conditional_gan import ConditionalGan as ConditionalGan
from compress.synthesize.conditional_gan import GanSettings as GanSettings
from compress.synthesize.conditional_gan import (
  hinge_discriminator_loss as hinge_discriminator_loss,
)
from compress.synthesize.conditional_gan import (
  hinge_generator_loss as hinge_generator_loss,
)
from compress.synthesize.conditional_gan import sample_gan as sample_gan
from compress.synthesize.conditional_gan import (
  train_conditional_gan as train_conditional_gan,
)
from compress.synthesize.density_ratio import DensityRatio as DensityRatio
from compress.synthesize.density_ratio import (
  softplus_ratio_loss as softplus_ratio_loss,
)
from compress.synthesize.density_ratio import (
  train_density_ratio as train_density_ratio,
)
from compress.synthesize.generators import CodeDecoder as CodeDecoder
from compress.synthesize.generators import ImageGenerator as ImageGenerator
from compress.synthesize.generators import (
  ProjectionDiscriminator as ProjectionDiscriminator,
)
from compress.synthesize.generators import (
  standardize_images as standardize_images,
)
from compress.synthesize.impressions import (
  answer_divergence as answer_divergence,
)
from compress.synthesize.impressions import answer_loss as answer_loss
from compress.synthesize.impressions import (
  class_impression_targets as class_impression_targets,
)
from compress.synthesize.impressions import class_similarity as class_similarity
from compress.synthesize.impressions import (
  data_impression_targets as data_impression_targets,
)
from compress.synthesize.impressions import (
  dirichlet_concentrations as dirichlet_concentrations,
)
from compress.synthesize.impressions import (
  sample_dirichlet_targets as sample_dirichlet_targets,
)
from compress.synthesize.inputs import Synthesized as Synthesized
from compress.synthesize.inputs import image_prior as image_prior
from compress.synthesize.inputs import mean_square as mean_square
from compress.synthesize.inputs import synthesize as synthesize
from compress.synthesize.inputs import total_variation as total_variation
from compress.synthesize.kegnet import GeneratorLoss as GeneratorLoss
from compress.synthesize.kegnet import kegnet_diversity as kegnet_diversity
from compress.synthesize.kegnet import (
  kegnet_generator_loss as kegnet_generator_loss,
)
from compress.synthesize.kegnet_training import KegNet as KegNet
from compress.synthesize.kegnet_training import KegNetSettings as KegNetSettings
from compress.synthesize.kegnet_training import (
  generator_accuracy as generator_accuracy,
)
from compress.synthesize.kegnet_training import sample_kegnet as sample_kegnet
from compress.synthesize.kegnet_training import train_kegnet as train_kegnet
from compress.synthesize.soft_targets import (
  FeatureDistribution as FeatureDistribution,
)
from compress.synthesize.soft_targets import (
  feature_distribution as feature_distribution,
)
from compress.synthesize.soft_targets import sample_features as sample_features
from compress.synthesize.soft_targets import soft_labels as soft_labels
from compress.synthesize.subsampling import Subsampled as Subsampled
from compress.synthesize.subsampling import accept_by_ratio as accept_by_ratio
from compress.synthesize.subsampling import adjust_labels as adjust_labels
from compress.synthesize.subsampling import class_errors as class_errors
from compress.synthesize.subsampling import error_cutoff as error_cutoff
from compress.synthesize.subsampling import (
  regression_errors as regression_errors,
)
from compress.synthesize.subsampling import subsample_fakes as subsample_fakes
from compress.synthesize.subsampling import (
  subsample_number_fakes as subsample_number_fakes,
)
from compress.synthesize.vicinal import Vicinity as Vicinity
from compress.synthesize.vicinal import draw_near as draw_near
from compress.synthesize.vicinal import draw_vicinal as draw_vicinal
from compress.synthesize.vicinal import (
  rule_of_thumb_noise as rule_of_thumb_noise,
)
from compress.synthesize.vicinal import (
  rule_of_thumb_radius as rule_of_thumb_radius,
)
from compress.synthesize.vicinal import soft_weights as soft_weights
