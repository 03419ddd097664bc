"""The methods that EMORL is compared with: one page or one folder for each, named after the method."""
