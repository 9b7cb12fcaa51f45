"""Bundles: files that move from custodian to custodian over the contact plan, to where they are for.

Store, carry and forward, as in delay-tolerant networks (RFC 9171; custody as in RFC 5050, 5.10): a node that
has accepted a bundle keeps it until the next one has accepted it, and nobody else has it meanwhile. The
acknowledgement of a letter is that acceptance: it comes once the receiver has committed it, and its object is
durable.

    source                      relay                       destination
    -------------------------------------------------------------------------
    queued: routed by the plan
      ---- Bundle + object ---->  accepted: routed anew
      <--- acknowledged ---------
    custody moved                 ---- Bundle + object ---->  into the inbox
                                  <--- acknowledged ---------
                                  custody moved

The route is the earliest arrival over what the plan's contacts have left (`contacts.routing`), asked again
when the contact that a bundle was meant for has passed, when its next custodian refuses it, and when the plan
is another one. There is one copy, so that two cannot arrive; a bundle carries the names of its custodians and
is never routed to, nor accepted by, one that has had it, so it cannot go round.
"""

from orbitrain.protocols.bundles.custodian import INBOX_JOB, ROLE, Custodian, Leg, Routes, bundles_held
from orbitrain.protocols.bundles.order import COMMAND, PRIORITIES, Order, OrderError, order_of

__all__ = [
    "COMMAND",
    "INBOX_JOB",
    "PRIORITIES",
    "ROLE",
    "Custodian",
    "Leg",
    "Order",
    "OrderError",
    "Routes",
    "bundles_held",
    "order_of",
]
