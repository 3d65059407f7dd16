"""Catalog and journal as one: a catalog that forgot opt-outs which the journal has is read as if it had them.

Laid over one connection, in its memory; nothing is written. Which opt-outs were lost is for the catalog to find out.
"""

from collections.abc import Sequence
from typing import Any

from datastore.catalog_rows import opt_out_columns
from datastore.receipts import Receipt
from datastore.tables import HIDDEN, LIVE, REMOVED, documents


def see_union(connection: Any, lost: Sequence[Receipt]) -> None:
    """Lay views over the tables of one connection, in its memory: SQLite looks for a name there first.

    So every question that a reader asks is asked of catalog and journal together, and none can forget to.
    """
    connection.execute("PRAGMA temp_store=MEMORY")
    columns = "number, document, sentences, digest, receipt, bars"
    connection.execute(f"CREATE TEMP TABLE lost ({columns}, commitment, n_entries, PRIMARY KEY (number))")
    connection.executemany(
        "INSERT INTO lost VALUES (:number, :document, :sentences, :digest, :receipt, '', :commitment, :n_entries)",
        [opt_out_columns(r) | {"commitment": r.commitment, "n_entries": r.n_entries} for r in lost],
    )
    connection.execute("CREATE TEMP TABLE lost_removals (leaf, document, first, last)")
    holes = [(r.leaf_index, r.document, first, last) for r in lost for first, last in r.sentences]
    connection.executemany("INSERT INTO lost_removals VALUES (?, ?, ?, ?)", holes)
    changed = ("state", "removed_epoch", "n_entries")
    same = ", ".join(column.name for column in documents.c if column.name not in changed)
    is_lost = f"state IN ('{LIVE}', '{HIDDEN}') AND id IN (SELECT document FROM lost WHERE sentences = '')"
    is_unwritten = "number NOT IN (SELECT leaf FROM main.log)"
    n_lost = (
        "SELECT coalesce(sum(lost.n_entries), 0) FROM lost "
        f"WHERE lost.document = documents.id AND lost.sentences <> '' AND lost.{is_unwritten}"
    )
    connection.execute(
        f"CREATE TEMP VIEW documents AS SELECT {same}, documents.n_entries - ({n_lost}) AS n_entries, "
        f"CASE WHEN {is_lost} THEN '{REMOVED}' ELSE state END AS state, "
        f"CASE WHEN {is_lost} THEN (SELECT epoch FROM main.state) ELSE removed_epoch END AS removed_epoch "
        "FROM main.documents"
    )
    unwritten = f"FROM lost WHERE {is_unwritten}"
    connection.execute(
        f"CREATE TEMP VIEW optouts AS SELECT {columns} FROM main.optouts UNION ALL SELECT {columns} {unwritten}"
    )
    connection.execute(
        "CREATE TEMP VIEW removals AS SELECT number, leaf, document, first, last, removed_epoch, is_erased "
        "FROM main.removals UNION ALL SELECT -rowid, leaf, document, first, last, (SELECT epoch FROM main.state), 0 "
        "FROM lost_removals WHERE leaf NOT IN (SELECT leaf FROM main.log)"
    )
    connection.execute(
        f"CREATE TEMP VIEW log AS SELECT leaf, commitment FROM main.log UNION ALL SELECT number, commitment {unwritten}"
    )
