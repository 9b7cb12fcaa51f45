"""The contact plan's JSON file: {version, sha256, scenario_sha256, epoch, duration_ns, nodes, contacts}.

A node is {name, kind}, a contact {source, destination, class, start_ns, end_ns, samples [{t_ns, delay_ns,
rate_bps, loss {mean, burst}}]}. More keys are there only where they say something:

- of the plan, `revision` (1 or more: a later issue of the plan, see `contacts.updates`), and `for_node` with
  `of_sha256` (a slice for one node, and the digest of the whole plan it was cut from, see `contacts.slices`);
- of a node, `place` {latitude_degrees, longitude_degrees, altitude_m} or `orbit` {epoch_days, bstar, ...};
- of a contact, `margin_ns` (above 0) and `confidence` (below 1).

`version` is that of this format. `sha256` is taken of the document without that key, as
`json.dumps(sort_keys=True, separators=(",", ":"), ensure_ascii=True)` writes it, with loss, confidence,
places and orbits as floats, -0.0 as 0.0. Floats are written with as many digits as bring them back exactly.

Standard library only.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Final, NoReturn

from orbitrain.contacts.contact import LINK_CLASSES, Contact, LinkClass, PlanError, Sample, choices
from orbitrain.contacts.node import NAME, NODE_KINDS, NodeKind, Orbit, Place, PlanNode
from orbitrain.contacts.plan import PLAN_VERSION, ContactPlan, contact_order

_PLAN_KEYS: Final = frozenset(
    {"version", "sha256", "scenario_sha256", "epoch", "duration_ns", "nodes", "contacts"}
)
_OPTIONAL_PLAN_KEYS: Final = frozenset({"revision", "for_node", "of_sha256"})
_NODE_KEYS: Final = frozenset({"name", "kind"})
_OPTIONAL_NODE_KEYS: Final = frozenset({"place", "orbit"})
_PLACE_KEYS: Final = tuple(one.name for one in fields(Place))
_ORBIT_KEYS: Final = tuple(one.name for one in fields(Orbit))
_CONTACT_KEYS: Final = frozenset({"source", "destination", "class", "start_ns", "end_ns", "samples"})
_OPTIONAL_CONTACT_KEYS: Final = frozenset({"margin_ns", "confidence"})
_SAMPLE_KEYS: Final = frozenset({"t_ns", "delay_ns", "rate_bps", "loss"})
_LOSS_KEYS: Final = frozenset({"mean", "burst"})


# --- writing ------------------------------------------------------------------------------------------------


def written(plan: ContactPlan) -> bytes:
    """What `ContactPlan.to_json` gives."""
    head = {
        "version": plan.version,
        "sha256": plan.sha256,
        "scenario_sha256": plan.scenario_sha256,
        "epoch": plan.epoch,
        "duration_ns": plan.duration_ns,
        **_optional_keys(plan),
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    lines.append(_json_list("nodes", [json.dumps(_node_document(node)) for node in plan.nodes]))
    lines.append(
        _json_list("contacts", [json.dumps(_contact_document(contact)) for contact in plan.contacts])
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def canonical_pieces(plan: ContactPlan) -> Iterable[str]:
    """The text that `sha256` is taken of, piece by piece."""
    # What json.dumps(document, sort_keys=True, separators=(",", ":")) gives, which a test holds it to,
    # written out because sorting the keys of half a million samples is most of the time of loading a plan,
    # and in pieces because the whole of a large plan is a gigabyte. Everything but names is a number or was
    # checked against a pattern without characters to escape.
    yield '{"contacts":['
    # "contacts" sorts before every other key.
    for first in range(0, len(plan.contacts), 1000):
        some = plan.contacts[first : first + 1000]
        yield ("," if first else "") + ",".join([_canonical_contact(contact) for contact in some])
    yield "]"
    nodes = ",".join(
        [json.dumps(_node_document(node), sort_keys=True, separators=(",", ":")) for node in plan.nodes]
    )
    document = {
        **_optional_keys(plan),
        "duration_ns": plan.duration_ns,
        "epoch": plan.epoch,
        "nodes": None,
        "scenario_sha256": plan.scenario_sha256,
        "version": plan.version,
    }
    for key in sorted(document):
        yield f',"{key}":' + (f"[{nodes}]" if key == "nodes" else json.dumps(document[key]))
    yield "}"


def _canonical_contact(contact: Contact) -> str:
    # Adding 0.0 makes floats of integers and drops the sign of zero, so that equal plans have one digest.
    samples = ",".join(
        [
            f'{{"delay_ns":{s.delay_ns},'
            f'"loss":{{"burst":{s.loss_burst + 0.0!r},"mean":{s.loss_mean + 0.0!r}}},'
            f'"rate_bps":{s.rate_bps},"t_ns":{s.t_ns}}}'
            for s in contact.samples
        ]
    )
    confidence = "" if contact.confidence == 1 else f'"confidence":{contact.confidence + 0.0!r},'
    margin = "" if contact.margin_ns == 0 else f'"margin_ns":{contact.margin_ns},'
    return (
        f'{{"class":"{contact.link_class}",{confidence}"destination":{json.dumps(contact.destination)},'
        f'"end_ns":{contact.end_ns},{margin}"samples":[{samples}],"source":{json.dumps(contact.source)},'
        f'"start_ns":{contact.start_ns}}}'
    )


def _optional_keys(plan: ContactPlan) -> dict[str, object]:
    values = {"revision": plan.revision or None, "for_node": plan.for_node, "of_sha256": plan.of_sha256}
    return {key: value for key, value in values.items() if value is not None}


def _node_document(node: PlanNode) -> dict[str, object]:
    document: dict[str, object] = {"name": node.name, "kind": node.kind}
    if node.place is not None:
        document["place"] = {key: getattr(node.place, key) + 0.0 for key in _PLACE_KEYS}
    if node.orbit is not None:
        document["orbit"] = {key: getattr(node.orbit, key) + 0.0 for key in _ORBIT_KEYS}
    return document


def _contact_document(contact: Contact) -> dict[str, object]:
    document: dict[str, object] = {
        "source": contact.source,
        "destination": contact.destination,
        "class": contact.link_class,
        "start_ns": contact.start_ns,
        "end_ns": contact.end_ns,
    }
    if contact.margin_ns != 0:
        document["margin_ns"] = contact.margin_ns
    if contact.confidence != 1:
        document["confidence"] = contact.confidence + 0.0
    document["samples"] = [
        {
            "t_ns": sample.t_ns,
            "delay_ns": sample.delay_ns,
            "rate_bps": sample.rate_bps,
            "loss": {"mean": sample.loss_mean + 0.0, "burst": sample.loss_burst + 0.0},
        }
        for sample in contact.samples
    ]
    return document


def _json_list(key: str, lines: list[str]) -> str:
    if not lines:
        return f'  "{key}": []'
    return f'  "{key}": [\n    ' + ",\n    ".join(lines) + "\n  ]"


# --- reading ------------------------------------------------------------------------------------------------


def read(data: bytes) -> ContactPlan:
    """What `ContactPlan.from_json` gives."""
    # Loading makes a million small objects and no cycle: the collector would walk the growing heap again
    # and again, which is half of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return read_document(_parsed(data))
    finally:
        if collecting:
            gc.enable()


def _parsed(data: bytes) -> object:
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError
        raise PlanError(f"plan: must be JSON in UTF-8 ({error})") from None


def read_document(value: object, *, digest_stated: bool = True) -> ContactPlan:
    """What `ContactPlan.from_document` gives."""
    document = _object(value, "", _PLAN_KEYS, _OPTIONAL_PLAN_KEYS)
    version = _integer(document["version"], "version")
    if version != PLAN_VERSION:  # first: the rest of another version may look quite different
        raise PlanError(f"version: must be {PLAN_VERSION}, not {version}")
    stated_sha256 = _text(document["sha256"], "sha256")
    nodes = tuple(_read_node(item, f"nodes[{i}]") for i, item in enumerate(_list(document["nodes"], "nodes")))
    contacts = tuple(
        _read_contact(item, f"contacts[{i}]")
        for i, item in enumerate(_list(document["contacts"], "contacts"))
    )
    for index in range(1, len(contacts)):
        if contact_order(contacts[index]) < contact_order(contacts[index - 1]):
            raise PlanError(f"contacts[{index}]: must be in the order of start_ns, source, destination")
    plan = ContactPlan(
        version=version,
        scenario_sha256=_text(document["scenario_sha256"], "scenario_sha256"),
        epoch=_text(document["epoch"], "epoch"),
        duration_ns=_integer(document["duration_ns"], "duration_ns"),
        nodes=nodes,
        contacts=contacts,
        revision=_read_revision(document),
        for_node=_text(document["for_node"], "for_node") if "for_node" in document else None,
        of_sha256=_text(document["of_sha256"], "of_sha256") if "of_sha256" in document else None,
    )
    if digest_stated and plan.sha256 != stated_sha256:
        raise PlanError(f"sha256: must be the digest of the plan ({plan.sha256}), not {stated_sha256!r}")
    return plan


def _read_revision(document: dict[str, object]) -> int:
    if "revision" not in document:
        return 0
    revision = _integer(document["revision"], "revision")
    if revision == 0:  # one plan, one text
        raise PlanError("revision: must be 1 or more, or not be there")
    return revision


def _read_node(value: object, where: str) -> PlanNode:
    document = _object(value, where, _NODE_KEYS, _OPTIONAL_NODE_KEYS)
    name = _text(document["name"], f"{where}.name")
    kind = _kind(_text(document["kind"], f"{where}.kind"), where)
    if len(document) == len(_NODE_KEYS):
        return PlanNode(name, kind)
    place = orbit = None
    if "place" in document:
        place = Place(**_numbers(document["place"], f"{where}.place", _PLACE_KEYS))
    if "orbit" in document:
        orbit = Orbit(**_numbers(document["orbit"], f"{where}.orbit", _ORBIT_KEYS))
    return PlanNode(name, kind, place, orbit)


def _read_contact(value: object, where: str) -> Contact:
    document = _object(value, where, _CONTACT_KEYS, _OPTIONAL_CONTACT_KEYS)
    items = _list(document["samples"], f"{where}.samples")
    margin_ns, confidence = 0, 1.0
    if len(document) > len(_CONTACT_KEYS):
        margin_ns, confidence = _read_trust(document, where)
    return Contact(
        source=_text(document["source"], f"{where}.source"),
        destination=_text(document["destination"], f"{where}.destination"),
        link_class=_link_class(_text(document["class"], f"{where}.class"), where),
        start_ns=_integer(document["start_ns"], f"{where}.start_ns"),
        end_ns=_integer(document["end_ns"], f"{where}.end_ns"),
        samples=tuple([_read_sample(item, where, i) for i, item in enumerate(items)]),
        margin_ns=margin_ns,
        confidence=confidence,
    )


def _read_trust(document: dict[str, object], where: str) -> tuple[int, float]:
    margin_ns, confidence = 0, 1.0
    if "margin_ns" in document:
        margin_ns = _integer(document["margin_ns"], f"{where}.margin_ns")
        if margin_ns == 0:  # one plan, one text
            raise PlanError(f"{where}.margin_ns: must be 1 or more, or not be there")
    if "confidence" in document:
        confidence = _number(document["confidence"], f"{where}.confidence")
        if confidence == 1:
            raise PlanError(f"{where}.confidence: must be below 1, or not be there")
    return margin_ns, confidence


def _read_sample(value: object, where: str, index: int) -> Sample:
    # The one hot spot of loading (ten samples a contact): plain type tests, and the path is only spelled out
    # to refuse.
    if type(value) is dict and value.keys() == _SAMPLE_KEYS:
        loss = value["loss"]
        if type(loss) is dict and loss.keys() == _LOSS_KEYS:
            t_ns, delay_ns, rate_bps = value["t_ns"], value["delay_ns"], value["rate_bps"]
            mean, burst = loss["mean"], loss["burst"]
            integers = type(t_ns) is int and type(delay_ns) is int and type(rate_bps) is int
            if integers and type(mean) is float and type(burst) is float:
                return Sample(t_ns, delay_ns, rate_bps, mean, burst)
    return _read_sample_slowly(value, f"{where}.samples[{index}]")


def _read_sample_slowly(value: object, where: str) -> Sample:
    document = _object(value, where, _SAMPLE_KEYS)
    loss = _object(document["loss"], f"{where}.loss", _LOSS_KEYS)
    return Sample(
        t_ns=_integer(document["t_ns"], f"{where}.t_ns"),
        delay_ns=_integer(document["delay_ns"], f"{where}.delay_ns"),
        rate_bps=_integer(document["rate_bps"], f"{where}.rate_bps"),
        loss_mean=_number(loss["mean"], f"{where}.loss.mean"),
        loss_burst=_number(loss["burst"], f"{where}.loss.burst"),
    )


def _object(
    value: object, where: str, keys: frozenset[str], optional: frozenset[str] = frozenset()
) -> dict[str, object]:
    if not isinstance(value, dict):
        raise PlanError(f"{where or 'plan'}: must be an object, not {_kind_of(value)}")
    if value.keys() != keys:
        prefix = f"{where}." if where else ""
        unknown, missing = sorted(value.keys() - keys - optional), sorted(keys - value.keys())
        if unknown:
            key = unknown[0] if NAME.fullmatch(unknown[0]) else repr(unknown[0])
            raise PlanError(f"{prefix}{key}: unknown key, allowed are {', '.join(sorted(keys | optional))}")
        if missing:
            raise PlanError(f"{prefix}{missing[0]}: must be there")
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise PlanError(f"{where}: must be a list, not {_kind_of(value)}")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        _refuse_type(where, "a string", value)
    return value


def _integer(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse_type(where, "an integer", value)
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse_type(where, "a number", value)
    try:
        return float(value)
    except OverflowError:
        raise PlanError(f"{where}: must be a number of ordinary size") from None


def _numbers(value: object, where: str, keys: tuple[str, ...]) -> dict[str, float]:
    document = _object(value, where, frozenset(keys))
    return {key: _number(document[key], f"{where}.{key}") for key in keys}


def _kind(value: str, where: str) -> NodeKind:
    for kind in ("satellite", "ground", "device"):
        if value == kind:
            return kind
    raise PlanError(f"{where}.kind: must be {choices(NODE_KINDS)}, not {value!r}")


def _link_class(value: str, where: str) -> LinkClass:
    for link_class in LINK_CLASSES:
        if value == link_class:
            return link_class
    raise PlanError(f"{where}.class: must be {choices(LINK_CLASSES)}, not {value!r}")


def _refuse_type(where: str, wanted: str, value: object) -> NoReturn:
    raise PlanError(f"{where}: must be {wanted}, not {_kind_of(value)}")


def _kind_of(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "an object", list: "a list", str: "a string", int: "an integer", float: "a fraction"}
    return names.get(type(value), type(value).__name__)
