"""Face networks in Flax, and loaders for real weights.

Every network maps raw pixels, float32 [B, 112, 112, 3], RGB, 0..255, to
embeddings [B, D] that are not normalised.
"""

from compress.models.iresnet import IResNet as IResNet
from compress.models.iresnet import iresnet18 as iresnet18
from compress.models.iresnet import iresnet34 as iresnet34
from compress.models.iresnet import iresnet50 as iresnet50
from compress.models.iresnet import iresnet100 as iresnet100
from compress.models.iresnet_weights import load_iresnet as load_iresnet
from compress.models.layers import PReLU as PReLU
from compress.models.mobilefacenet import MobileFaceNet as MobileFaceNet
from compress.models.mobilefacenet import mobilefacenet as mobilefacenet
from compress.models.mobilefacenet import (
  mobilefacenet_quantface as mobilefacenet_quantface,
)
from compress.models.onnx_weights import SFACE_SHA256 as SFACE_SHA256
from compress.models.onnx_weights import load_sface as load_sface
from compress.models.onnx_weights import sface_path as sface_path
from compress.models.onnx_weights import sface_sha256 as sface_sha256
from compress.models.sface import SFace as SFace
from compress.models.tflite_weights import (
  load_mobilefacenet as load_mobilefacenet,
)
