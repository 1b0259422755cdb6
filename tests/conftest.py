"""Before any test module imports huggingface_hub, which reads this once: nothing asks a network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
