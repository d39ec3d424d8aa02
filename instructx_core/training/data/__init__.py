"""Training examples: from the procedural world, from one's own pairs, from public sets as they are published.

    table.py     what is at `data.table`: which files, in which layout, recognised by content
    layouts/     one file a layout: what of a record is the source, the target, the instruction
    listing.py, parquet.py, tars.py      records out of text listings, parquet files and WebDataset tars
    pixels.py    a row's files -> an `Example`
    stream.py    rows without end: shared by processes, shuffled, resumable to the row
    feed.py      rows -> batches of one shape, read ahead
    tally.py     broken rows: skipped, listed, and too many
    encoding.py, pool.py, cache.py       latents, and examples whose latents are on the disk
    sources.py   what a stage draws its batches from: a pool, or a stream

Nothing here runs code from a data set, fetches anything, or unpickles: `datasets` and `webdataset` are given opened
local files and built-in readers alone.
"""
