"""Build the package from settings.ini, the one source of metadata."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]


def words(key): return cfg.get(key, "").split()


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8") if (here / "README.md").exists() else cfg["description"],
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    keywords=cfg["keywords"],
    packages=find_packages(include=[cfg["lib_path"], f'{cfg["lib_path"]}.*']),
    package_data={cfg["lib_path"]: ["weights/*"]},
    include_package_data=True,
    python_requires=f'>={cfg["min_python"]}',
    install_requires=words("pip_requirements"),
    extras_require={"dev": words("dev_requirements")},
    entry_points={
        "console_scripts": [line.strip() for line in cfg.get("console_scripts", "").splitlines() if line.strip()],
        "nbdev": [f'{cfg["lib_path"]}={cfg["lib_path"]}._modidx:d'],
    },
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Science/Research", "Natural Language :: English"]
    + [f"Programming Language :: Python :: {v}" for v in words("python_versions")],
    zip_safe=False,
)
