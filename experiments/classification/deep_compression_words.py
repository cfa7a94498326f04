"""Deep Compression in words: stages, papers, and what they reached."""

_URL = 'https://arxiv.org/abs/1510.00149'
_HAN = 'Han, Mao, Dally, 2016, Deep Compression, arXiv:1510.00149'

# Ratios of Deep Compression on MNIST: pruned, with a codebook, with Huffman.
PAPER = {
  'lenet_300_100': {'pruned': 12, 'codebook': 32, 'huffman': 40},
  'lenet_5': {'pruned': 12, 'codebook': 33, 'huffman': 39},
}

TITLES = {'lenet_300_100': 'LeNet-300-100', 'lenet_5': 'LeNet-5'}

METHODS = {
  'float32': {
    'summary': 'The trained network, every parameter in 32 bits.',
    'paper': _HAN,
    'url': _URL,
  },
  'pruned': {
    'summary': 'The smallest weights of the network removed and the rest '
    'retrained; survivors as float32 with relative indices of a fixed width.',
    'paper': _HAN,
    'url': _URL,
  },
  'codebook': {
    'summary': 'Survivors share few values, found by k-means and trained by '
    'their summed gradients; codes and indices of a fixed width.',
    'paper': _HAN,
    'url': _URL,
  },
  'huffman': {
    'summary': 'The same codes and indices, each coded by Huffman: Deep '
    'Compression as published.',
    'paper': _HAN,
    'url': _URL,
  },
  'ans': {
    'summary': 'The same codes and indices, coded by asymmetric numeral '
    'systems.',
    'paper': 'Duda et al., 2015, The use of asymmetric numeral systems as an '
    'accurate replacement for Huffman coding',
  },
  'context': {
    'summary': 'The same codes, zeros included, coded by a context-adaptive '
    'binary arithmetic coder, without indices.',
    'paper': 'Wiedemann et al., 2020, DeepCABAC, arXiv:1907.11900',
    'url': 'https://arxiv.org/abs/1907.11900',
  },
  'deepcabac': {
    'summary': 'The pruned network on a uniform grid, codes chosen by error '
    'and length together, the same coder; nothing is trained afterwards.',
    'paper': 'Wiedemann et al., 2020, DeepCABAC, arXiv:1907.11900',
    'url': 'https://arxiv.org/abs/1907.11900',
  },
}
