"""Reading pools of questions: files of rows in the usual formats, block by block, with every bad row told apart.

    files (which there are) -> pieces (what one worker reads) -> records -> fields (columns as text) -> rows

A record that cannot be used never ends the reading: it comes as a `Bad` with its line or row, and the caller decides.
"""
