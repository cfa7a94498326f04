"""A student taught by a teacher: losses, class heads, batches for pairs."""

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
from compress.distill.heads import arcface_logits as arcface_logits
from compress.distill.heads import arcface_loss as arcface_loss
from compress.distill.heads import cosface_logits as cosface_logits
from compress.distill.heads import cosface_loss as cosface_loss
from compress.distill.heads import cosines as cosines
from compress.distill.heads import init_head as init_head
from compress.distill.response import cross_entropy as cross_entropy
from compress.distill.response import hinton_loss as hinton_loss
from compress.distill.response import soft_target_loss as soft_target_loss
from compress.distill.sampler import BatchShape as BatchShape
from compress.distill.sampler import identity_balanced as identity_balanced
