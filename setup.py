"""Build the package from settings.ini, the one source of its metadata."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]

status = ["1 - Planning", "2 - Pre-Alpha", "3 - Alpha", "4 - Beta", "5 - Production/Stable", "6 - Mature", "7 - Inactive"]
licenses = {"apache2": "Apache-2.0"}


def words(key): return cfg.get(key, "").split()
def lines(key): return [line.strip() for line in cfg.get(key, "").splitlines() if line.strip()]


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license=licenses[cfg["license"]],
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    keywords=cfg["keywords"],
    packages=find_packages(include=[cfg["lib_path"], f'{cfg["lib_path"]}.*']),
    package_data={cfg["lib_path"]: ["weights/*", "weights/**/*", "commands.json"]},
    python_requires=f'>={cfg["min_python"]}',
    install_requires=words("pip_requirements"),
    extras_require={"dev": words("dev_requirements")},
    entry_points={
        "console_scripts": lines("console_scripts"),
        "align4gen.plugins": lines("plugins"),
        "nbdev": [f'{cfg["lib_path"]}={cfg["lib_path"]}._modidx:d'],
    },
    classifiers=[
        f'Development Status :: {status[int(cfg["status"]) - 1]}',
        f'Intended Audience :: {cfg["audience"]}',
        f'Natural Language :: {cfg["language"]}',
        *(f"Programming Language :: Python :: {v}" for v in words("python_versions")),
    ],
    zip_safe=False,
)
