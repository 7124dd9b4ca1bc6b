"""Values carried between a notebook and a cell's script: without pickle, since what a guest sends is not trusted.

    plain    the format, and Python's own values    guest      runs a cell's Python, in the guest
    arrays   NumPy's                                shell      what bash scripts read and write: files by their endings
    frames   pandas's                               luggage    what one cell takes along and brings back
                                                    transport  its ways, with a job and to a VM that is there

plain, arrays, frames and guest are sent along with a cell, so that both ends speak the same format: they need nothing
but Python 3.10 and, for such values only, NumPy and pandas of whichever version lies there.
"""

from __future__ import annotations
