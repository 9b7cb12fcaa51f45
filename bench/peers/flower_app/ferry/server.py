"""Asks the one node for its update, and keeps it."""

import time
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    out = Path(str(context.run_config["out"]))
    try:
        update = asked(grid)
    except Exception as error:
        out.with_suffix(".failed").write_text(f"{type(error).__name__}: {error}")
        raise
    fresh = out.with_suffix(".fresh")
    fresh.write_bytes(update)
    fresh.rename(out)


def asked(grid: Grid) -> bytes:
    """Raises RuntimeError for a reply that says that there is none."""
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.1)
    content = RecordDict({"config": ConfigRecord({"round": 1})})
    question = Message(content=content, dst_node_id=nodes[0], message_type="train", group_id="1")
    (reply,) = grid.send_and_receive([question])
    if reply.has_error():
        raise RuntimeError(str(reply.error))
    (update,) = reply.content["arrays"].to_numpy_ndarrays()
    return bytes(update.tobytes())
