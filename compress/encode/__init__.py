"""Bytes: packing, and the file of a compressed network."""

from compress.encode.bits import pack_bits as pack_bits
from compress.encode.bits import packed_size as packed_size
from compress.encode.bits import unpack_bits as unpack_bits
from compress.encode.file import Loaded as Loaded
from compress.encode.file import load as load
from compress.encode.file import save as save
