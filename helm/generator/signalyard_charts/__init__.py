"""What is generated in the charts: their table of values, and the part of their schema that is a route's. Development only."""
