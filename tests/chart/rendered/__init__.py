"""What the charts make of values, and what pods must be like to pass the `restricted` level."""
