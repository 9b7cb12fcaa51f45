"""Flow: which chunk goes over which satellite and station in which slot, between planes and ground server.

Satellite-ground transfer of satellite federated fine-tuning (arXiv 2504.10403). What we know of the paper is
its abstract and public summaries: links are intermittent, and at each time the network is a static flow
network of which a maximum flow is taken. `maxflow_slot` is reconstructed from that; the graph, `teg`,
`first_visible` and what is done about deviations are ours.

Import the modules, not this package. scipy is loaded by the first maximum flow, never by an import.
"""
