"""From a graph source to parts on disk: offline, on CPU, without torch.

    sources/   SOURCE string -> validated Graph          build    Graph + assignment -> parts on disk
    assign/    Graph -> one part index per node           store    parts on disk -> Manifest, Part
    order      locality order of the nodes of a part      checks   whether a part can be indexed with
    quality    what a partition costs                     fit      whether the parts fit each other
    edges, labels, features   arrays as they come, checked for the Graph that is made of them
    disk       full disks, signals: whole or not there    adjacency   the arcs, by their target

Nothing here imports bnsgcn or torch.distributed.
"""
