"""Answers with the file that the node's configuration names, as one array of bytes."""

from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    update = np.frombuffer(Path(str(context.node_config["file"])).read_bytes(), dtype=np.uint8)
    Path(str(context.node_config["begun"])).touch()
    content = RecordDict(
        {
            "arrays": ArrayRecord.from_numpy_ndarrays([update]),
            "metrics": MetricRecord({"num-examples": 1}),
        }
    )
    return Message(content=content, reply_to=message)
