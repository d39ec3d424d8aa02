"""Training examples from the procedural world, the user's own pairs, or public data sets as published.

    opening.py   finds the listings at `data.table` and recognises their layout by content
    table.py     the rows of a data set, read on demand
    layouts/     one file per layout: which fields of a record are source, target and instruction
    listing.py, parquet.py, tars.py      read records from text listings, Parquet files and WebDataset tars
    pixels.py    a row's files -> an `Example`
    stream.py    an endless stream of rows: split among processes, shuffled, resumable to the row
    feed.py      rows -> batches of one shape, read ahead
    tally.py     counts and lists broken rows, and stops at too many
    encoding.py, pool.py, cache.py       encode examples; read and make pools of them on disk
    sources.py   where a stage's batches come from: a pool or a stream

Nothing here runs code from a data set, downloads anything or unpickles: `datasets` and `webdataset` only read local
files, with built-in readers.
"""
