"""The files that take longest begin first, so that no process is left alone with one of them at the end."""

longest = ['test_outputs', 'test_hosts', 'test_kills', 'test_house', 'test_memory', 'test_cache', 'test_train_dpvae',
    'test_kill', 'test_battery', 'test_videodit_train', 'test_resume', 'test_many', 'test_sample', 'test_conversion',
    'test_autoencoders', 'test_evaluate', 'test_printed_commands', 'test_loops', 'test_fuzz']


def pytest_configure(config):
    "pytest-xdist would begin with the files that have most tests."
    if hasattr(config.option, 'loadscopereorder'): config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    places = {name: i for i, name in enumerate(longest)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
