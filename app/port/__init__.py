"""Port's API, and in `setup` what is made there and tried from here."""
