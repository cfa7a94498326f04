"""Bytes: packing, entropy coding, and the file of a compressed network."""

from compress.encode.bits import pack_bits as pack_bits
from compress.encode.bits import packed_size as packed_size
from compress.encode.bits import unpack_bits as unpack_bits
from compress.encode.chooser import all_codecs as all_codecs
from compress.encode.chooser import codec_named as codec_named
from compress.encode.chooser import plain_codecs as plain_codecs
from compress.encode.codec import Codec as Codec
from compress.encode.codec import Coded as Coded
from compress.encode.codec import coded_nbytes as coded_nbytes
from compress.encode.codec import entropy as entropy
from compress.encode.codec import smallest as smallest
from compress.encode.context_models import ContextModel as ContextModel
from compress.encode.context_models import context_coder as context_coder
from compress.encode.file import File as File
from compress.encode.file import Loaded as Loaded
from compress.encode.file import load as load
from compress.encode.file import save as save
from compress.encode.fixed_width import plain as plain
from compress.encode.listing import format_listing as format_listing
from compress.encode.listing import list_file as list_file
from compress.encode.numeral_systems import adaptive_ans as adaptive_ans
from compress.encode.numeral_systems import ans as ans
from compress.encode.prefix_codes import huffman as huffman
from compress.encode.rate_distortion import choose_codes as choose_codes
from compress.encode.sparse_index import sparse as sparse
