"""What the accelerator keeps: content files, the catalogue that says what they are, uploads, and their going."""
