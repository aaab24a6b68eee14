"""What a verified token means here: pure rules over claims."""
