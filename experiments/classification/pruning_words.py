"""The pruning benchmark in words: methods, papers, and what they claim."""

import dataclasses

_URL = 'https://arxiv.org/abs/'


@dataclasses.dataclass(frozen=True)
class Claim:
  """What a method's paper says, as far as these figures can tell.

  Attributes:
    over: the method that it is said to be better than.
    says: the paper's words, briefly.
    why: what may make it otherwise here.
    before: before fine-tuning, not after.
    least: compression ratio from which on it is said.
  """

  over: str
  says: str
  why: str
  before: bool = False
  least: float = 1.0


def _paper(summary, paper, arxiv=None, url=None):
  entry = {'summary': summary, 'paper': paper}
  if arxiv or url:
    entry['url'] = url or _URL + arxiv
  return entry


_HAN = ('Han et al., 2015, arXiv:1506.02626', '1506.02626')
_BENCH = ('Blalock et al., 2020, arXiv:2003.03033', '2003.03033')
_RIGL = ('Evci et al., 2020, RigL, arXiv:1911.11134', '1911.11134')
_DEPGRAPH = ('Fang et al., 2023, DepGraph, arXiv:2301.12900', '2301.12900')

METHODS = {
  'dense': _paper('Nothing is removed; trained on as all others are.', *_BENCH),
  'random': _paper(
    'Control: weights at random, the same share of every layer.', *_BENCH
  ),
  'layer_magnitude': _paper('Control: the smallest |w| of every layer.', *_HAN),
  'global_magnitude': _paper(
    'Control: the smallest |w| of the whole network.', *_BENCH
  ),
  'erk_magnitude': _paper(
    'The smallest |w|; small layers stay denser (ERK).', *_RIGL
  ),
  'layer_gradient': _paper('The smallest |w g| of every layer.', *_BENCH),
  'global_gradient': _paper(
    'The smallest |w g| of the whole network.', *_BENCH
  ),
  'brain_damage': _paper(
    'The smallest h w²/2 of the network, h the Gauss-Newton diagonal.',
    'LeCun, Denker, Solla, 1990, Optimal Brain Damage',
  ),
  'wanda': _paper(
    'The smallest |w| times the norm of its input, in every row.',
    'Sun et al., 2024, arXiv:2306.11695',
    '2306.11695',
  ),
  'sparsegpt': _paper(
    'Layer by layer with repair of what is left.',
    'Frantar and Alistarh, 2023, arXiv:2301.00774',
    '2301.00774',
  ),
  'n_m': _paper(
    'N:M by magnitude: 2 of 4 at 2×, 1 of as many as the ratio beyond.',
    'Mishra et al., 2021, arXiv:2104.08378',
    '2104.08378',
  ),
  'gradual': _paper(
    'The smallest |w| of the network, more and more along a cubic curve.',
    'Zhu and Gupta, 2017, arXiv:1710.01878',
    '1710.01878',
  ),
  'iterative': _paper(
    'The smallest |w| of every layer in four rounds, training between.', *_HAN
  ),
  'movement': _paper(
    'Learned scores: weights that fine-tuning moves towards zero leave.',
    'Sanh, Wolf, Rush, 2020, arXiv:2005.07683',
    '2005.07683',
  ),
  'random_initial': _paper(
    'Control: weights at random before training, small layers denser.', *_RIGL
  ),
  'snip': _paper(
    'Before training, by the sensitivity of the loss to each weight.',
    'Lee, Ajanthan, Torr, 2019, arXiv:1810.02340',
    '1810.02340',
  ),
  'grasp': _paper(
    'Before training, so that gradients flow.',
    'Wang, Zhang, Grosse, 2020, arXiv:2002.07376',
    '2002.07376',
  ),
  'synflow': _paper(
    'Before training and without data, by the flow through each weight.',
    'Tanaka et al., 2020, arXiv:2006.05467',
    '2006.05467',
  ),
  'set': _paper(
    'Sparse from the start; small weights leave, others grow at random.',
    'Mocanu et al., 2018, arXiv:1707.04780',
    '1707.04780',
  ),
  'rigl': _paper(
    'Sparse from the start; weights grow where the gradient is large.', *_RIGL
  ),
  'random_channels': _paper('Control: channels at random.', *_BENCH),
  'depgraph': _paper(
    'Channels by all weights they share in, every group alike.', *_DEPGRAPH
  ),
  'depgraph_global': _paper(
    'The same importance in one ranking of all channels.', *_DEPGRAPH
  ),
  'l1_filters': _paper(
    'Channels by the absolute sum of their filter.',
    'Li et al., 2017, arXiv:1608.08710',
    '1608.08710',
  ),
  'taylor_2017': _paper(
    'Channels by the first-order change of the loss, of their map.',
    'Molchanov et al., 2017, arXiv:1611.06440',
    '1611.06440',
  ),
  'taylor_2019': _paper(
    'Channels by the squared first-order change, of their filter.',
    'Molchanov et al., 2019, arXiv:1906.10771',
    '1906.10771',
  ),
  'fisher': _paper(
    'Channels by the Fisher information of a gate on their map.',
    'Theis et al., 2018, arXiv:1801.05787',
    '1801.05787',
  ),
  'apoz': _paper(
    'Channels by how often they are above zero.',
    'Hu et al., 2016, arXiv:1607.03250',
    '1607.03250',
  ),
  'channel_brain_damage': _paper(
    'Channels by h w²/2 summed over their filter.',
    'LeCun, Denker, Solla, 1990; Persand et al., 2021, arXiv:1906.04675',
    '1906.04675',
  ),
  'relevance': _paper(
    'Channels by layer-wise relevance propagation.',
    'Yeom et al., 2021, arXiv:1912.08881',
    '1912.08881',
  ),
  'nisp': _paper(
    'Channels by the importance of the last responses, sent down.',
    'Yu et al., 2018, NISP, arXiv:1711.05908',
    '1711.05908',
  ),
}

_SMALL = 'a small network on small images, a few hundred updates'
_FEW = 'scores of 100 images, and weights that fit the training images'

CLAIMS = {
  'layer_magnitude': Claim(
    'random',
    'small weights are spared best',
    'one step, and weights still near their random beginning',
  ),
  'global_magnitude': Claim(
    'layer_magnitude', 'global ranking beats layer-wise', _SMALL
  ),
  'erk_magnitude': Claim(
    'layer_magnitude', 'ERK beats the same share of every layer', _SMALL
  ),
  'global_gradient': Claim(
    'layer_gradient', 'global ranking beats layer-wise', _FEW
  ),
  'brain_damage': Claim(
    'global_magnitude',
    'second derivatives tell more than magnitude',
    'one round where the paper goes in small steps',
  ),
  'wanda': Claim(
    'layer_magnitude',
    'better than magnitude without retraining, up to about 2×',
    'inputs without the outliers of language models',
    before=True,
  ),
  'sparsegpt': Claim(
    'layer_magnitude',
    'better than magnitude without retraining',
    _FEW,
    before=True,
  ),
  'gradual': Claim(
    'global_magnitude', 'gradual pruning beats pruning at once', _SMALL
  ),
  'iterative': Claim(
    'layer_magnitude', 'rounds with training between beat one', _SMALL
  ),
  'movement': Claim(
    'layer_magnitude',
    'better than magnitude where little is left',
    'no transfer from another task, and scores that take few updates',
    least=8,
  ),
  'snip': Claim('random_initial', 'better than random weights', _FEW),
  'grasp': Claim('random_initial', 'better than random weights', _FEW),
  'synflow': Claim(
    'snip', 'does not collapse where others do', _SMALL, least=16
  ),
  'set': Claim('random_initial', 'better than places that stay', _SMALL),
  'rigl': Claim('set', 'better than growing at random', _SMALL),
  'depgraph': Claim(
    'l1_filters', 'importance of the group beats that of its filter', _SMALL
  ),
  **{
    name: Claim('random_channels', 'better than random channels', _SMALL)
    for name in (
      'l1_filters',
      'depgraph_global',
      'fisher',
      'apoz',
      'channel_brain_damage',
    )
  },
  **{
    name: Claim('l1_filters', 'better than the size of filters', _FEW)
    for name in ('taylor_2017', 'taylor_2019', 'nisp')
  },
  'relevance': Claim(
    'l1_filters', 'clearly better without retraining', _FEW, before=True
  ),
}
