"""What becomes of each table's rows: conversions, findings and expectations."""
