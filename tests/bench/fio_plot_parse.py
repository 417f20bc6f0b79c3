"""What fio-plot does before it draws: run by its own Python, on the directories that are named."""

import sys

from fio_plot.fiolib import defaultsettings, getdata

settings = defaultsettings.get_default_settings() | {
    "input_directory": sys.argv[1:],
    "rw": "randread",
    # Whatever there is.
    "iodepth": range(1, 2**16),
    "numjobs": range(1, 2**16),
    "compare_graph": False,
}
found = getdata.get_json_data(settings)
print(sum(len(directory["data"]) for directory in found))
