"""Data sets of faces: aligned photographs, identities, pairs to verify."""

from compress.data.align import TEMPLATE as TEMPLATE
from compress.data.align import align_face as align_face
from compress.data.align import read_landmarks as read_landmarks
from compress.data.align import similarity_transform as similarity_transform
from compress.data.faces import FaceDataset as FaceDataset
from compress.data.faces import Split as Split
from compress.data.faces import VerificationSet as VerificationSet
from compress.data.faces import all_pairs as all_pairs
from compress.data.faces import contiguous_folds as contiguous_folds
from compress.data.faces import merge_groups as merge_groups
from compress.data.insightface import load_bin as load_bin
from compress.data.lfw import load_lfw as load_lfw
from compress.data.orl import load_orl as load_orl
from compress.data.pairs import load_folder as load_folder
from compress.data.pairs import load_pairs as load_pairs
from compress.data.recordio import load_recordio as load_recordio
from compress.data.rfw import load_rfw as load_rfw
from compress.data.splits import folds_by_identity as folds_by_identity
from compress.data.splits import fraction as fraction
from compress.data.splits import parse_identities as parse_identities
from compress.data.splits import select as select
from compress.data.splits import split_by_identity as split_by_identity
