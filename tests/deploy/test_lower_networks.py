"""Whole networks, compiled as users do, against onnxruntime to the bit."""

import jax
import numpy as np
import pytest

from compress import deploy, models
from compress.packed import unpack_tree
from experiments.faces import exported, networks, people
from experiments.faces import student as student_lib
from experiments.faces.recipe import Recipe
from tests.deploy.processor import exact_products


def small_iresnet():
  module = models.IResNet((1, 2), widths=(8, 16), features=16)
  images = np.zeros((2, 112, 112, 3), np.float32)
  variables = jax.jit(module.init)(jax.random.key(0), images)
  return networks.from_module('iresnet', module, variables)


def small_mobilefacenet():
  module = models.MobileFaceNet(
    stem=8,
    widths=(8, 8, 8),
    expansions=((16, 16), (16, 16), (16, 16)),
    blocks=(1, 1, 1),
    head=16,
    features=8,
  )
  images = np.zeros((2, 112, 112, 3), np.float32)
  variables = jax.jit(module.init)(jax.random.key(1), images)
  return networks.from_module('mobilefacenet', module, variables)


NETWORKS = {
  'sface': lambda: networks.load_network('sface'),
  'iresnet': small_iresnet,
  'mobilefacenet': small_mobilefacenet,
}


@exact_products
@pytest.mark.slow
@pytest.mark.parametrize('bits', [8, 4])
@pytest.mark.parametrize('name', NETWORKS)
def test_onnxruntime_gives_the_same_to_the_bit(name, bits):
  network, photographs = NETWORKS[name](), people.load_faces('orl').images
  recipe = Recipe(weight_bits=bits, activation_bits=bits, observer='minmax')
  student = student_lib.make_student(
    network, recipe, photographs[:20:2], batch=5
  )
  tree = student.pack(student.trained, student.carried)
  stored = exported.Stored(network, recipe, tree, {})
  lowered = exported.lowered(stored)
  run = jax.jit(lowered.apply)
  x = photographs[200:210].astype(np.float32)
  session = deploy.open_session(exported.to_onnx(stored)[0])
  np.testing.assert_array_equal(
    run(unpack_tree(lowered.variables), x), session.run(None, {'images': x})[0]
  )
