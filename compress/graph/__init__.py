"""What a model is made of, read from its jaxpr, whatever framework wrote it."""

from compress.graph.channels import ChannelGroup as ChannelGroup
from compress.graph.channels import Channels as Channels
from compress.graph.channels import Member as Member
from compress.graph.channels import channels as channels
from compress.graph.cost import Cost as Cost
from compress.graph.cost import cost as cost
from compress.graph.cpu_conv import cpu_rules as cpu_rules
from compress.graph.depthwise import depthwise_conv as depthwise_conv
from compress.graph.fold import Folded as Folded
from compress.graph.fold import fold as fold
from compress.graph.rewrite import Emit as Emit
from compress.graph.rewrite import Graph as Graph
from compress.graph.rewrite import Rule as Rule
from compress.graph.rewrite import compose as compose
from compress.graph.rewrite import rewrite as rewrite
from compress.graph.rewrite import trace as trace
from compress.graph.sites import Site as Site
from compress.graph.sites import leaf_paths as leaf_paths
from compress.graph.sites import path_string as path_string
