"""What the pages tell their readers to type, for the tests that type it."""
