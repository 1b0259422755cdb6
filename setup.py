"""Packaging: kernels/ and sampling/ are installed as metatlp.kernels and metatlp.sampling."""

from setuptools import setup

setup(
    name="metatlp",
    version="0.1.0",
    description="Reptile meta-learning over a grid of task-language pairs, one pair per GPU",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={
        "metatlp": "metatlp",
        "metatlp.kernels": "kernels",
        "metatlp.sampling": "sampling",
    },
    packages=[
        "metatlp",
        "metatlp.data",
        "metatlp.data.demo",
        "metatlp.engine",
        "metatlp.engine.arguments",
        "metatlp.engine.scoring",
        "metatlp.engine.supervised",
        "metatlp.export",
        "metatlp.kernels",
        "metatlp.model",
        "metatlp.report",
        "metatlp.sampling",
        "metatlp.tasks",
    ],
    install_requires=[
        "torch>=2.11,<2.14",
        'triton>=3.6,<4; platform_system == "Linux"',
        "transformers>=5.17,<6",
        "accelerate>=1.15,<2",
        "tokenizers>=0.22",
        "datasets>=4.0,<6",
        "safetensors>=0.5",
        "numpy>=2.0",
        "pyarrow>=21",
        "tqdm>=4.66",
        "evaluate>=0.4.3",
        "huggingface_hub>=1.0",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.7",
            "hypothesis>=6.100",
            "tensorboard",
            "matplotlib>=3.9",
            "scikit-learn>=1.5",
            "seqeval>=1.2",
        ],
        "dev": ["ruff>=0.8", "mypy>=1.13", "pre-commit>=4"],
    },
)
