"""The page that shows results: reading result files, tables, pictures, one self-contained HTML file."""
