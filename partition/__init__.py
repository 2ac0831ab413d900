"""From a graph source to parts on disk: offline, on CPU, without torch.

    sources/   SOURCE string -> validated Graph          build   Graph + assignment -> parts on disk
    assign/    Graph -> one part index per node           store   parts on disk: Manifest, Part, checks
    order      locality order of the nodes of a part      quality what a partition costs
    edges, labels, features   arrays as they come, checked for the Graph that is made of them

Nothing here imports bnsgcn or torch.distributed.
"""
