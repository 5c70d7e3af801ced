"""What every engine must do, whatever the framework, for the tests that have a model of it."""
