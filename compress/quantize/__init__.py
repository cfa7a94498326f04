"""Numbers with fewer bits: grids, codebooks, ranges, weights, activations."""

from compress.quantize import aciq as aciq
from compress.quantize import conventions as conventions
from compress.quantize import integer as integer
from compress.quantize import kl as kl
from compress.quantize import kmeans as kmeans
from compress.quantize import lsq as lsq
from compress.quantize.activations import INPUTS as INPUTS
from compress.quantize.activations import QUANTFACE as QUANTFACE
from compress.quantize.activations import Placement as Placement
from compress.quantize.activations import activation_plan as activation_plan
from compress.quantize.activations import activation_rule as activation_rule
from compress.quantize.activations import calibrate as calibrate
from compress.quantize.activations import finalize as finalize
from compress.quantize.activations import observe as observe
from compress.quantize.activations import (
  observe_and_quantize as observe_and_quantize,
)
from compress.quantize.activations import observe_batches as observe_batches
from compress.quantize.activations import placed_names as placed_names
from compress.quantize.activations import (
  quantize_activations as quantize_activations,
)
from compress.quantize.affine import dequantize as dequantize
from compress.quantize.affine import fake_quantize as fake_quantize
from compress.quantize.affine import quantize as quantize
from compress.quantize.buckets import BucketSpec as BucketSpec
from compress.quantize.buckets import PointSpec as PointSpec
from compress.quantize.buckets import bits_by_gradient as bits_by_gradient
from compress.quantize.buckets import learn_points as learn_points
from compress.quantize.buckets import quantize_buckets as quantize_buckets
from compress.quantize.codebook import SharedSpec as SharedSpec
from compress.quantize.codebook import SignSpec as SignSpec
from compress.quantize.codebook import binarize_signs as binarize_signs
from compress.quantize.codebook import share_weights as share_weights
from compress.quantize.codebook import sharing_ratio as sharing_ratio
from compress.quantize.codebook import with_zero_code as with_zero_code
from compress.quantize.histogram import mse as mse
from compress.quantize.histogram import mse_range as mse_range
from compress.quantize.histogram import percentile as percentile
from compress.quantize.interval import Drawn as Drawn
from compress.quantize.interval import draw_precision as draw_precision
from compress.quantize.interval import drawn_quantizer as drawn_quantizer
from compress.quantize.interval import init_interval as init_interval
from compress.quantize.interval import quantize_interval as quantize_interval
from compress.quantize.interval import quantize_intervals as quantize_intervals
from compress.quantize.observers import Observer as Observer
from compress.quantize.observers import cumulative as cumulative
from compress.quantize.observers import ema_minmax as ema_minmax
from compress.quantize.observers import mean_std as mean_std
from compress.quantize.observers import minmax as minmax
from compress.quantize.observers import sample_minmax as sample_minmax
from compress.quantize.product import ProductSpec as ProductSpec
from compress.quantize.product import lookup_product as lookup_product
from compress.quantize.product import product_ratio as product_ratio
from compress.quantize.product import quantize_products as quantize_products
from compress.quantize.ranges import qparams_from_range as qparams_from_range
from compress.quantize.ranges import tensor_qparams as tensor_qparams
from compress.quantize.ranges import tensor_range as tensor_range
from compress.quantize.residual import ResidualSpec as ResidualSpec
from compress.quantize.residual import quantize_residuals as quantize_residuals
from compress.quantize.residual import residual_ratio as residual_ratio
from compress.quantize.spec import AffineSpec as AffineSpec
from compress.quantize.spec import QParams as QParams
from compress.quantize.weights import quantize_weights as quantize_weights
