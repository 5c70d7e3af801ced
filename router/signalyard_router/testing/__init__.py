"""Test doubles that ship with the router: fakes of its ports, for our tests and for those of its users."""
