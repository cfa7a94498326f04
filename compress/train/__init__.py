"""Training: one pure step, on any number of devices, that can be killed."""

from compress.train.batches import array_batches as array_batches
from compress.train.batches import batch_indices as batch_indices
from compress.train.batches import shuffled as shuffled
from compress.train.batches import steps_per_epoch as steps_per_epoch
from compress.train.checkpoint import restore as restore
from compress.train.checkpoint import save as save
from compress.train.checkpoint import saved_steps as saved_steps
from compress.train.history import read_history as read_history
from compress.train.loop import NonFiniteError as NonFiniteError
from compress.train.loop import fit as fit
from compress.train.schedule import adam as adam
from compress.train.schedule import constant as constant
from compress.train.schedule import cosine as cosine
from compress.train.schedule import decayed as decayed
from compress.train.schedule import sgd as sgd
from compress.train.schedule import staircase as staircase
from compress.train.sharding import DATA_AXIS as DATA_AXIS
from compress.train.sharding import data_mesh as data_mesh
from compress.train.sharding import (
  initialize_distributed as initialize_distributed,
)
from compress.train.sharding import jit_step as jit_step
from compress.train.sharding import pmap_step as pmap_step
from compress.train.sharding import put_batch as put_batch
from compress.train.sharding import put_state as put_state
from compress.train.sharding import replicate as replicate
from compress.train.sharding import unreplicate as unreplicate
from compress.train.step import TrainState as TrainState
from compress.train.step import init_state as init_state
from compress.train.step import make_step as make_step
