"""From the store to the destinations, queue by queue."""
