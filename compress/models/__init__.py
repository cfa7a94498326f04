"""Networks in Flax, and loaders for real weights.

Every face network (IResNet, MobileFaceNet, SFace, ShuffleFaceNet, VarGFaceNet)
maps raw pixels, float32 [B, 112, 112, 3], RGB, 0..255, to embeddings [B, D]
that are not normalised. Every classifier (all others) maps float32 images
[B, H, W, C], scaled as their data set scales them, to logits [B, classes] of
its last layer, `classifier`.
"""

from compress.models.doubly_convolutional import DoublyConv as DoublyConv
from compress.models.doubly_convolutional import DoublyConvNet as DoublyConvNet
from compress.models.doubly_convolutional import (
  doubly_convnet as doubly_convnet,
)
from compress.models.inception import GoogLeNet as GoogLeNet
from compress.models.inception import InceptionBlock as InceptionBlock
from compress.models.inception import InceptionWidths as InceptionWidths
from compress.models.inception import googlenet as googlenet
from compress.models.iresnet import IResNet as IResNet
from compress.models.iresnet import iresnet18 as iresnet18
from compress.models.iresnet import iresnet34 as iresnet34
from compress.models.iresnet import iresnet50 as iresnet50
from compress.models.iresnet import iresnet100 as iresnet100
from compress.models.iresnet_weights import load_iresnet as load_iresnet
from compress.models.layers import PReLU as PReLU
from compress.models.lenet import LeNet5 as LeNet5
from compress.models.lenet import LeNet300 as LeNet300
from compress.models.lenet import lenet5 as lenet5
from compress.models.lenet import lenet300 as lenet300
from compress.models.mobilefacenet import MobileFaceNet as MobileFaceNet
from compress.models.mobilefacenet import mobilefacenet as mobilefacenet
from compress.models.mobilefacenet import (
  mobilefacenet_quantface as mobilefacenet_quantface,
)
from compress.models.mobilenet import MobileNet as MobileNet
from compress.models.mobilenet import mobilenet as mobilenet
from compress.models.onnx_weights import SFACE_SHA256 as SFACE_SHA256
from compress.models.onnx_weights import load_sface as load_sface
from compress.models.onnx_weights import sface_path as sface_path
from compress.models.onnx_weights import sface_sha256 as sface_sha256
from compress.models.resnet import ResNet as ResNet
from compress.models.resnet import cifar_resnet as cifar_resnet
from compress.models.resnet import cifar_resnet8 as cifar_resnet8
from compress.models.resnet import cifar_resnet20 as cifar_resnet20
from compress.models.resnet import cifar_resnet32 as cifar_resnet32
from compress.models.resnet import cifar_resnet56 as cifar_resnet56
from compress.models.resnet import resnet18 as resnet18
from compress.models.resnet import resnet34 as resnet34
from compress.models.resnet import resnet50 as resnet50
from compress.models.sface import SFace as SFace
from compress.models.shufflefacenet import ShuffleFaceNet as ShuffleFaceNet
from compress.models.shufflefacenet import channel_shuffle as channel_shuffle
from compress.models.shufflefacenet import shufflefacenet as shufflefacenet
from compress.models.squeezenet import SqueezeNet as SqueezeNet
from compress.models.squeezenet import squeezenet as squeezenet
from compress.models.squeezenet import squeezenet11 as squeezenet11
from compress.models.tflite_weights import (
  load_mobilefacenet as load_mobilefacenet,
)
from compress.models.vargfacenet import VarGFaceNet as VarGFaceNet
from compress.models.vargfacenet import vargfacenet as vargfacenet
from compress.models.vit import VisionTransformer as VisionTransformer
from compress.models.vit import vit_b16 as vit_b16
from compress.models.wide_resnet import WideResNet as WideResNet
from compress.models.wide_resnet import wide_resnet as wide_resnet
