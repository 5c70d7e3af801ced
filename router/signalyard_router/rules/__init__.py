"""The rules of a decision: pure, with the time passed in. They import the standard library, msgspec and the wire words."""
