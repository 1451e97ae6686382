"""Tables that are safe to open in a spreadsheet."""

import csv
import io

# Characters at which a spreadsheet sees the start of a formula; see OWASP, "CSV injection".
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_text(header, rows):
    """Format a table as CSV, in which no cell begins like a formula.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequences

    Returns
    -------
    text : str
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")  # RFC 4180
    writer.writerow(header)
    writer.writerows([[harmless(cell) for cell in row] for row in rows])
    return file.getvalue()


def harmless(cell):
    """A cell, with an apostrophe in front of text that a spreadsheet would run as a formula."""
    if isinstance(cell, str) and cell.startswith(FORMULA):
        return "'" + cell
    return cell
