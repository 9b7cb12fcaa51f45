"""The app of survival/flower.py: one round, the client's reply the update. Runs in Flower's environment."""

import os
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from survive.marking import mark, update

SIZE = int(os.environ["ORBITRAIN_BENCH_BYTES"])
FILE = os.environ.get("ORBITRAIN_BENCH_FILE")
GO = os.environ.get("ORBITRAIN_BENCH_GO")
client = ClientApp()
server = ServerApp()


def weights() -> np.ndarray:
    # Bits as they come may be NaN: integers are averaged as well.
    return np.frombuffer(Path(FILE).read_bytes() if FILE else update(SIZE), dtype=np.int32)


@client.train()
def train(message: Message, context: Context) -> Message:
    arrays = ArrayRecord([weights()])
    metrics = MetricRecord({"num-examples": 1})
    mark("ready")
    while GO and not Path(GO).exists():
        time.sleep(0.02)
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


class Watched(FedAvg):
    """Says what it got."""

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        for reply in replies:
            if reply.has_content():
                record = next(iter(reply.content.array_records.values()))
                (array,) = record.to_numpy_ndarrays()
                if array.tobytes() == weights().tobytes():
                    if FILE:
                        Path(os.environ["ORBITRAIN_BENCH_MARKS"], "update").write_bytes(array.tobytes())
                    mark("held")
                    break
        else:
            errors = [str(reply.error) for reply in replies if reply.has_error()]
            mark("lost", f"ServerApp: {len(replies)} replies {' '.join(errors)}".strip())
        return super().aggregate_train(server_round, replies)


@server.main()
def main(grid: Grid, context: Context) -> None:
    strategy = Watched(fraction_evaluate=0.0, min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
    initial = ArrayRecord([np.zeros(1, dtype=np.int32)])
    try:
        strategy.start(grid, initial, num_rounds=1, timeout=float(os.environ["ORBITRAIN_BENCH_TIMEOUT_S"]))
    except BaseException as error:
        mark("lost", f"ServerApp: {error!r}")
        raise
