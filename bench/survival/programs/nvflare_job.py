"""Exports the job of survival/nvflare.py: one round of NVFlare's FedAvg. Runs in NVFlare's environment.

python nvflare_job.py FOLDER CLIENT_CONFIG SERVER_CONFIG, the latter two JSON objects of top-level settings.
"""

import json
import sys
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare_watch import Watch

folder, for_client, for_server = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
recipe = NumpyFedAvgRecipe(
    name="survive",
    model=np.zeros(1, dtype=np.int32),
    min_clients=1,
    num_rounds=1,
    train_script=str(Path(__file__).with_name("nvflare_client.py")),
    aggregator=Watch(),
)
if for_client:
    recipe.add_client_config(for_client)
if for_server:
    recipe.add_server_config(for_server)
recipe.export(folder)
